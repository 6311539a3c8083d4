"""When the failed runs of a model count as the model's fault."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.run_health import RunHealth
from tests.unit.service.scheduling.test_batching import pair

GOOD, BAD = [pair(3, 1)], [pair(3, 666)]


class Model:
    """A model that fails on bad pairs, and on all once it is broken."""

    broken = False

    def __call__(self, pairs, width):
        if self.broken or pairs is BAD:
            raise ValueError("a failed run")
        return np.zeros(len(pairs), dtype=np.float32)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def health(model):
    return RunHealth(model, 3)


def run(health, pairs, times=1):
    for _ in range(times):
        try:
            health.run(pairs, 3)
        except ValueError:
            continue


def test_so_many_failures_in_a_row_are_the_models_fault(health, model):
    run(health, GOOD)
    model.broken = True
    run(health, GOOD, 2)
    assert not health.broken
    run(health, GOOD)
    assert (health.broken, health.failed) == (True, 3)


def test_a_model_that_never_succeeded_is_broken_too(health, model):
    model.broken = True
    run(health, GOOD, 3)
    assert health.broken


def test_one_success_ends_it(health, model):
    model.broken = True
    run(health, GOOD, 10)
    assert health.broken
    model.broken = False
    run(health, GOOD)
    assert (health.broken, health.failed) == (False, 0)


def test_bad_pairs_are_not_the_models_fault_however_many(health):
    run(health, GOOD)
    run(health, BAD, 100)
    assert not health.broken


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 6))
def test_broken_means_that_so_many_runs_have_failed_since_the_last_success(successes, most):
    model = Model()
    health, in_a_row = RunHealth(model, most), 0
    for succeeds in successes:
        model.broken = not succeeds
        run(health, GOOD)
        in_a_row = 0 if succeeds else in_a_row + 1
        assert health.broken == (in_a_row >= most)
        assert health.failed == in_a_row


def test_failures_of_several_threads_are_counted_together(health, model):
    run(health, GOOD)
    model.broken = True
    threads = [threading.Thread(target=run, args=(health, GOOD)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert health.broken
