"""How long a caller is waited for, by a clock of the tests."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.bulk.minimum_rate import Pace

RATE, SILENCE = 100.0, 60.0


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(RATE, SILENCE, clock)


def test_time_runs_only_while_the_caller_is_waited_for(pace, clock):
    clock.now += 1000
    assert pace.seconds_left == SILENCE
    pace.wait(True)
    clock.now += 10
    pace.wait(False)
    clock.now += 1000
    assert pace.seconds_left == SILENCE - 10


def test_a_byte_a_minute_is_too_slow(pace, clock):
    pace.wait(True)
    minutes = 0
    while pace.seconds_left > 0:
        clock.now += 60
        pace.moved(1)
        minutes += 1
    assert minutes == 1


@given(st.lists(st.floats(0.01, SILENCE - 1), min_size=1, max_size=50), st.floats(1.01, 10))
def test_a_caller_that_is_fast_enough_is_waited_for_for_ever(pauses, factor):
    clock = Clock()
    pace = Pace(RATE, SILENCE, clock)
    pace.wait(True)
    for pause in pauses * 20:
        clock.now += pause
        assert pace.seconds_left > 0
        pace.moved(int(factor * RATE * pause) + 1)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 500)), min_size=1, max_size=50))
def test_bytes_never_buy_more_than_the_longest_pause(moves):
    clock = Clock()
    pace = Pace(RATE, SILENCE, clock)
    pace.wait(True)
    for pause, count in moves:
        clock.now += pause
        pace.moved(count)
        assert pace.seconds_left <= SILENCE


def test_run_out_returns_once_no_time_is_left():
    async def scenario():
        pace = Pace(RATE, 0.01)
        pace.wait(True)
        await pace.run_out()
        return pace.seconds_left

    assert asyncio.run(scenario()) <= 0
