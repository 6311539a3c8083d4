"""Results, problems and waits of the client, without any network."""

import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.client.types import (
    BulkScore,
    ModelVersion,
    Problem,
    RetryPolicy,
    ScoreResult,
    Usage,
    retry_after_seconds,
)
from relevance.errors import ConfigError
from relevance.tasks import Pair

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def part(scores, version="v1", truncated=()):
    return ScoreResult.from_answer(
        {
            "task": "qc",
            "model": {"name": "m", "version": version},
            "scores": [{"score": score, "label": int(score >= 0.5)} for score in scores],
            "thresholds": {"unk": 0.5},
            "truncated": list(truncated),
            "usage": {"pairs": len(scores), "tokens": 10 * len(scores)},
        },
        "part",
    )


@given(st.lists(st.lists(st.floats(0, 1), min_size=1), min_size=1))
def test_joined_parts_keep_the_order_of_the_call(chunks):
    whole = ScoreResult.joined([part(chunk, truncated=[len(chunk) - 1]) for chunk in chunks], "whole")
    flat = [score for chunk in chunks for score in chunk]
    assert list(whole.scores) == flat
    assert list(whole.labels) == [int(score >= 0.5) for score in flat]
    assert [flat[place] for place in whole.truncated] == [chunk[-1] for chunk in chunks]
    assert whole.usage == Usage(len(flat), 10 * len(flat), len(chunks))
    assert whole.request_id == "whole"


def test_models_are_named_once_each():
    whole = ScoreResult.joined([part([0.1], "v1"), part([0.2], "v2"), part([0.3], "v1")], "id")
    assert whole.models == (ModelVersion("m", "v1"), ModelVersion("m", "v2"))
    assert whole.model.version == "v1"


def test_best_first_keeps_the_order_of_equal_scores():
    assert part([0.2, 0.9, 0.2, 0.95]).best_first == (3, 1, 0, 2)


@pytest.mark.parametrize("missing", ["task", "model", "scores", "thresholds", "truncated", "usage"])
def test_answer_without_a_field_is_no_answer(missing):
    answer = {"task": "qc", "model": {"name": "m", "version": "v"}, "scores": [], "thresholds": {}, "truncated": []}
    answer |= {"usage": {"pairs": 0, "tokens": 0}}
    ScoreResult.from_answer(answer, "id")
    del answer[missing]
    with pytest.raises(KeyError):
        ScoreResult.from_answer(answer, "id")


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1, 7])
def test_score_that_is_no_probability_is_no_answer(score):
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        part([score])
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        BulkScore.from_line(0, Pair("a", "b"), "v", {"line": 1, "score": score, "label": 1, "truncated": False})


@pytest.mark.parametrize("retry", [0, 63, 1023, 1024, 10**9])
def test_wait_before_any_retry_is_within_the_cap(retry):
    policy = RetryPolicy(attempts=10**10, base_seconds=0.1, cap_seconds=5)
    assert 0 <= policy.wait_seconds(retry, None, random.Random(1)) <= 5


def test_problem_details_are_read():
    body = b'{"title": "t", "status": 422, "detail": "d", "reason": "invalid_request", "errors": [{"where": "x"}]}'
    assert Problem.from_body(422, body) == Problem(422, "invalid_request", "t", "d", ({"where": "x"},))


@pytest.mark.parametrize(
    "body", [b"<html>Bad Gateway</html>", b"", b"[1]", b'{"message": "no"}', b"\xff\xfe", b"[" * 200_000]
)
def test_body_of_something_else_becomes_the_detail(body):
    problem = Problem.from_body(502, body)
    assert (problem.status, problem.reason) == (502, "unknown")
    assert problem.detail == body.decode("utf-8", "replace")[:300]


@given(st.integers(1, 9), st.integers(0, 12), st.none() | st.floats(0, 60), st.integers())
def test_waits_are_bounded_and_honour_retry_after(attempts, retry, retry_after, seed):
    policy = RetryPolicy(attempts=attempts, base_seconds=0.1, cap_seconds=2)
    wait = policy.wait_seconds(retry, retry_after, random.Random(seed))
    if retry + 1 >= attempts:
        assert wait is None
    else:
        assert (retry_after or 0) <= wait <= (retry_after or 0) + min(2, 0.1 * 2**retry)


def test_waits_of_many_callers_are_spread_over_the_whole_range():
    rng = random.Random(0)
    waits = [RetryPolicy(base_seconds=1).wait_seconds(1, None, rng) for _ in range(1000)]
    assert min(waits) < 0.05
    assert max(waits) > 1.95


def test_too_long_retry_after_is_not_waited_for():
    assert RetryPolicy(longest_retry_after_seconds=5).wait_seconds(0, 6, random.Random(0)) is None


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_seconds": -1}, {"cap_seconds": -1}])
def test_impossible_policy_is_refused(wrong):
    with pytest.raises(ConfigError, match="RetryPolicy"):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        (" 0 ", 0),
        ("Sat, 01 Mar 2025 12:00:30 GMT", 30),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0),
        ("Sat, 01 Mar 2025 12:00:30 -0000", 30),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_seconds(header, NOW) == seconds


def test_errors_of_another_kind_are_left_out():
    assert Problem.from_body(400, b'{"errors": true, "reason": "odd"}').errors == ()
