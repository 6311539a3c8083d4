import pytest

from relevance.client.breaker import HEDGED_SHARE, Breaker, HedgeAllowance
from relevance.client.rerank import RerankPolicy
from relevance.client.types import CircuitOpenError, RefusedError, UnreachableError

POLICY = RerankPolicy(break_after=3, break_seconds=10)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def call(breaker, error=None, policy=POLICY):
    """Make a call that succeeds, or fails with an error; return how it ended."""
    try:
        with breaker.call(policy, "id"):
            if error is not None:
                raise error("no", "id", 1)
    except (CircuitOpenError, UnreachableError, RefusedError) as raised:
        return type(raised)
    return None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


def test_circuit_opens_after_failures_in_a_row(breaker):
    assert [call(breaker, UnreachableError) for _ in range(2)] == [UnreachableError] * 2
    assert call(breaker) is None  # a success starts the count again
    assert [call(breaker, UnreachableError) for _ in range(3)] == [UnreachableError] * 3
    assert call(breaker) is CircuitOpenError


def test_one_call_tries_again_and_closes_the_circuit(breaker, clock):
    for _ in range(3):
        call(breaker, UnreachableError)
    clock.now += 10
    with breaker.call(POLICY, "id"):
        assert call(breaker) is CircuitOpenError  # only one at a time
    assert [call(breaker), call(breaker)] == [None, None]


def test_a_call_without_a_breaker_starts_no_second_trial(breaker, clock):
    for _ in range(3):
        call(breaker, UnreachableError)
    clock.now += 10
    with breaker.call(POLICY, "id"):
        assert call(breaker, policy=RerankPolicy(break_after=9)) is None
        breaker._failed = 3  # the call above closed the circuit; the trial that is under way began before
        assert call(breaker) is CircuitOpenError


def test_failed_trial_keeps_the_circuit_open(breaker, clock):
    for _ in range(3):
        call(breaker, UnreachableError)
    clock.now += 10
    assert call(breaker, UnreachableError) is UnreachableError
    clock.now += 9
    assert call(breaker) is CircuitOpenError
    clock.now += 1
    assert call(breaker) is None


def test_trial_that_is_cancelled_lets_the_next_one_try(breaker, clock):
    for _ in range(3):
        call(breaker, UnreachableError)
    clock.now += 10
    with pytest.raises(KeyboardInterrupt), breaker.call(POLICY, "id"):
        raise KeyboardInterrupt
    assert call(breaker) is None


def test_refused_requests_open_no_circuit(breaker):
    assert [call(breaker, RefusedError) for _ in range(9)] == [RefusedError] * 9
    assert call(breaker) is None


def test_breaker_can_be_switched_off(breaker):
    off = RerankPolicy(break_after=0)
    assert [call(breaker, UnreachableError, off) for _ in range(9)] == [UnreachableError] * 9


def test_hedges_are_a_share_of_the_calls():
    allowance, taken = HedgeAllowance(), 0
    for _ in range(1000):
        allowance.count_call()
        taken += allowance.take()
    assert taken <= 1 + 1000 * HEDGED_SHARE + 1
    assert taken >= 1000 * HEDGED_SHARE - 1
