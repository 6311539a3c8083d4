"""Admission to a cascade: both models must have room and time for what each will read of a request."""

import math
import time

import pytest

from service.errors import DeadlineError, OverloadedError
from service.scoring.admission import Admission
from service.scoring.cascade import CascadeAdmission, FollowingQueue, PassedShare


class Queue:
    """As much of a scheduler as admission reads."""

    def __init__(self, queued, speed):
        self.queued_tokens = self.backlog_tokens = queued
        self.tokens_per_second = speed

    def tokens_before(self, tokens):
        return self.queued_tokens


def admitting(small, large, share, most=10_000):
    """Admission to models with (queued tokens, tokens a second); each may take a second."""
    share, queues = PassedShare(share), [Queue(*small), Queue(*large)]
    queues[1] = FollowingQueue(*queues, share)
    return CascadeAdmission(*(Admission(queue, most, 1.0) for queue in queues), share)


def test_request_needs_room_in_both_models():
    admitting((100, 1000), (20, 200), 0.2).admit(100, math.inf)
    with pytest.raises(OverloadedError, match="900 queued"):
        admitting((900, 1000), (0, 2000), 0.2).admit(100, math.inf)
    with pytest.raises(OverloadedError, match="180 queued"):
        admitting((0, 1000), (180, 200), 0.2).admit(100, math.inf)


def test_tokens_that_the_small_model_will_pass_on_fill_the_large_models_queue():
    small = (400, 10_000)
    admitting(small, (0, 200), 0.1).admit(100, math.inf)  # 40 + 2 * 10 of 200 tokens
    with pytest.raises(OverloadedError, match=r"200 queued \+ 2 x 50"):
        admitting(small, (0, 200), 0.5).admit(100, math.inf)


def test_deadline_has_time_for_both_models_one_after_the_other():
    now = time.monotonic()
    admission = admitting((0, 1000), (0, 100), 0.2)  # 0.1 s for 100 tokens, and 0.2 s for 20 of them
    admission.admit(100, now + 30.32)
    for seconds in (0.15, 0.25):  # too short for the large model; long enough for each alone
        with pytest.raises(DeadlineError):
            admission.admit(100, time.monotonic() + seconds)


def test_cascade_that_passes_on_nothing_needs_no_room_in_the_large_model():
    admitting((0, 1000), (199, 200), 0.0).admit(100, time.monotonic() + 60)


def test_tokens_of_requests_that_are_tokenised_count_in_both_models():
    admission = admitting((0, 1000), (0, 100), 0.5)
    with admission.reserve(150):
        assert admission.full is False
        with pytest.raises(OverloadedError, match="75 queued"):
            admission.admit(100, math.inf)
    admission.admit(100, math.inf)


def test_full_cascade_shows_the_fuller_model():
    admission = admitting((10, 1000), (200, 100), 0.1, most=150)
    assert (admission.full, admission.queued_tokens, admission.limit) == (True, 201, 100)
    assert admission.retry_after_seconds == 3
    assert admitting((10, 1000), (20, 100), 0.1).full is False


def test_share_follows_what_is_passed_on():
    share = PassedShare(0.5)
    share.learn(0, 0)
    assert share.value == 0.5
    for _ in range(200):
        share.learn(5000, 500)
    assert share.value == pytest.approx(0.1, abs=0.001)
