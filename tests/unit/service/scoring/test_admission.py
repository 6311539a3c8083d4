import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.tasks import Pair
from service.batch_shape import BatchShape
from service.errors import DeadlineError, InvalidRequestError, OverloadedError, TooLargeError
from service.scheduling.fair_queue import SchedulingPolicy
from service.scheduling.job import Priority
from service.scheduling.throughput import MEMORY_SECONDS, Throughput
from service.scoring.admission import CANDIDATES, Admission, check_pairs
from service.scoring.token_estimate import TokenEstimator, utf8_bytes
from service.settings import Settings
from tests.unit.service.scheduling.test_fair_queue import TOKENS_PER_SECOND, Simulation


class Queue:
    """As much of a scheduler as admission reads."""

    def __init__(self, queued_tokens, tokens_per_second, before=0):
        self.queued_tokens = self.backlog_tokens = queued_tokens
        self.tokens_per_second, self._before = tokens_per_second, before

    def tokens_before(self, tokens):
        return self._before


def admitting(queued, speed, *, most=10_000, seconds=1.0, before=0):
    return Admission(Queue(queued, speed, before), most, seconds)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.floats(1, 50_000))
def test_whoever_is_let_in_beside_others_can_be_answered_in_time(queued, tokens, speed):
    admission = admitting(queued, speed)
    if (queued + 2 * tokens) / speed <= 1 and queued + tokens <= 10_000:
        admission.admit(tokens, math.inf)
    elif queued > min(10_000, speed) / 20:
        with pytest.raises(OverloadedError) as refusal:
            admission.admit(tokens, math.inf)
        assert 1 <= refusal.value.retry_after_seconds <= 60


@given(st.integers(1, 10**9), st.floats(0, 1e6))
def test_a_request_on_its_own_is_always_let_in(tokens, speed):
    admitting(0, speed).admit(tokens, math.inf)
    admitting(int(min(10_000, speed)) // 20, speed).admit(tokens, math.inf)


@given(st.integers(0, 20_000), st.floats(0, 50_000), st.integers(1, 1000))
def test_full_means_that_nobody_is_let_in(queued, speed, tokens):
    admission = admitting(queued, speed)
    if admission.full:
        with pytest.raises(OverloadedError):
            admission.admit(tokens, math.inf)


def test_deadline_is_held_against_the_work_before_it():
    now = time.monotonic()
    admitting(5000, 10_000, before=100).admit(100, now + 0.5)
    with pytest.raises(
        DeadlineError, match="needs about 70 ms"
    ):  # its own tokens count twice, as for the target latency
        admitting(5000, 10_000, before=500).admit(100, now + 0.065)
    admitting(0, 10_000).admit(600, now + 0.1)  # but once where nobody is there who could be overtaken
    with pytest.raises(DeadlineError):
        admitting(0, 0.0).admit(1, now - 1)


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["fine", "x" * 51], TooLargeError, r"candidates\[1\]: 51 characters, expected at most 50"),
        (["fine", "\u3000,"], InvalidRequestError, r"candidates\[1\]: blank"),
        (["fine", "\udc00"], InvalidRequestError, r"candidates\[1\]: half of a surrogate pair"),
        (["a", "b", "c", "d"], TooLargeError, "candidates: 4 of them, expected at most 3"),
        ([], InvalidRequestError, "`candidates` is empty"),
    ],
)
def test_texts_over_a_limit_are_named(texts, error, said):
    limits = Settings(max_candidates=3, max_candidate_chars=50)
    with pytest.raises(error, match=said):
        check_pairs([Pair("q", text) for text in texts], limits, CANDIDATES)


@given(st.lists(st.text(max_size=6), min_size=1, max_size=5))
def test_texts_are_judged_one_by_one_as_they_are_together(texts):
    def verdict(some):
        try:
            check_pairs([Pair("q", text) for text in some], Settings(max_candidate_chars=4), CANDIDATES)
        except (TooLargeError, InvalidRequestError):
            return False
        return True

    assert verdict(texts) == all(verdict([text]) for text in texts)


class Live(Queue):
    """The queue of a simulation, as admission reads it."""

    def __init__(self, queue):
        self._queue = queue

    queued_tokens = property(lambda self: self._queue.queued_tokens[Priority.INTERACTIVE])
    backlog_tokens = property(lambda self: self._queue.backlog_tokens())
    tokens_per_second = property(lambda self: self._queue.throughput.tokens_per_second)


@settings(max_examples=30, deadline=None)
@given(st.integers(2001, 20_000), st.lists(st.integers(1, 40), min_size=20, max_size=60))
def test_a_request_far_too_large_keeps_nobody_else_out(giant, sizes):
    policy = SchedulingPolicy(BatchShape(100), target_run_seconds=0.1, target_latency_seconds=1.0)
    simulation = Simulation(policy)
    simulation.queue.throughput.add(3 * TOKENS_PER_SECOND, 3 * TOKENS_PER_SECOND, 3.0)
    admission = Admission(Live(simulation.queue), 10**9, policy.target_latency_seconds)
    large, others = simulation.request([10] * (giant // 10 + 1)), []
    simulation.step()
    admission.admit(250, math.inf)  # half of the room is left, for a request and what may overtake it
    for size in sizes:
        simulation.step()
        if admission.backlog_tokens + 20 * size < admission.limit:
            admission.admit(10 * size, math.inf)
            others.append(simulation.request([10] * size, at=simulation.now))
    simulation.run()
    assert all(each.done - each.at <= 1.5 * policy.target_latency_seconds for each in others)
    assert large.answered


def test_a_request_far_too_large_leaves_room_while_it_is_tokenised():
    admission = admitting(0, 1000)
    with admission.reserve(5000):
        admission.admit(200, math.inf)
        with pytest.raises(OverloadedError, match="500 queued"):
            admission.admit(300, math.inf)
    with admission.reserve(2000), pytest.raises(OverloadedError, match="2000 queued"):
        admission.admit(1, math.inf)


def test_what_is_being_tokenised_counts_as_waiting():
    admission = admitting(0, 1000)
    with admission.reserve(900):
        assert admission.queued_tokens == 900
        with pytest.raises(OverloadedError):
            admission.admit(100, math.inf)
    admission.admit(100, math.inf)


def test_guess_holds_where_languages_are_mixed():
    """Eleven characters of Japanese have as many bytes, and about as many tokens, as 33 of English."""
    lengths = TokenEstimator()
    english, japanese = "x" * 33, "青" * 11
    assert utf8_bytes(english) == utf8_bytes(japanese) == 33
    for _ in range(3):
        lengths.learn(500 * 33, 500 * 9)
    assert lengths.estimate(33) == pytest.approx(9, abs=1)


def test_guess_follows_what_texts_have_had():
    lengths = TokenEstimator()
    assert lengths.estimate(100) == 25
    for _ in range(10):
        lengths.learn(50_000, 30_000)
    assert lengths.estimate(100) == pytest.approx(60, abs=1)
    lengths.learn(10, 10)
    lengths.learn(0, 0)
    assert lengths.estimate(100) == pytest.approx(60, abs=1)  # little text says little


def test_speed_is_that_of_the_last_seconds_and_long_runs_weigh_more():
    speed = Throughput()
    assert speed.tokens_per_second == speed.padded_tokens_per_second == 0
    speed.add(1000, 2000, 1.0)
    speed.add(1, 1, 0.1)
    assert speed.tokens_per_second == pytest.approx(910, rel=0.01)
    assert speed.padded_tokens_per_second == pytest.approx(1819, rel=0.01)
    for _ in range(100):
        speed.add(50, 50, MEMORY_SECONDS / 10)
    assert speed.tokens_per_second == pytest.approx(250, rel=0.01)


def test_a_run_that_stood_still_is_soon_forgotten():
    speed = Throughput()
    speed.add(8000, 8000, MEMORY_SECONDS)
    speed.add(400, 400, 60.0)
    for _ in range(60):
        speed.add(400, 400, MEMORY_SECONDS / 20)
    assert speed.tokens_per_second == pytest.approx(4000, rel=0.1)
