import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.text.tokenization import TokenizedPair
from service.batch_shape import BatchShape
from service.errors import DeadlineError, ScoringError, UnavailableError
from service.scheduling import inference_thread as thread_module
from service.scheduling import scheduler as scheduler_module
from service.scheduling.fair_queue import SchedulingPolicy
from service.scheduling.job import Priority
from service.scheduling.scheduler import BatchReport, Scheduler
from tests.unit.service.scheduling.test_batching import lengths_of_requests, pair


def scheduler_of(run, budget: int, *observe, concurrent_runs: int = 1) -> Scheduler:
    return Scheduler(run, SchedulingPolicy(BatchShape(budget), concurrent_runs=concurrent_runs), *observe)


def value_of_each(pairs, width):
    assert width >= max(map(len, pairs))
    return np.array([pair.input_ids[0] for pair in pairs], dtype=np.float32)


@given(lengths_of_requests, st.integers(1, 300), st.integers(1, 3))
def test_every_logit_lands_at_its_place(requests, budget, concurrent_runs):
    numbered = [[pair(length, 1000 * r + i) for i, length in enumerate(lengths)] for r, lengths in enumerate(requests)]

    async def scenario():
        scheduler = scheduler_of(value_of_each, budget, concurrent_runs=concurrent_runs)
        answers = await asyncio.gather(*[scheduler.score(pairs) for pairs in numbered])
        assert scheduler.queued_tokens == 0
        await scheduler.close()
        return answers

    for pairs, outcome in zip(numbered, asyncio.run(scenario()), strict=True):
        assert outcome.logits.tolist() == [pair.input_ids[0] for pair in pairs]


@pytest.fixture(autouse=True)
def threads_end():
    """Wait for the threads of the test: the error of one that dies belongs to this test, not to the next."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


class Gate:
    """A model that waits at a gate before each run, so that tests decide what happens while it is busy."""

    def __init__(self):
        self.entered, self.open = threading.Semaphore(0), threading.Semaphore(0)
        self.runs = []

    def __call__(self, pairs, width):
        self.entered.release()
        self.open.acquire()
        self.runs.append(len(pairs))
        if any(pair.input_ids[0] == 666 for pair in pairs):
            raise ValueError("bad pair")
        if any(pair.input_ids[0] == 667 for pair in pairs):
            raise SystemExit
        return value_of_each(pairs, width)


async def busy(gate: Gate, scheduler: Scheduler, pairs: list[TokenizedPair], **how) -> asyncio.Task:
    """Hand pairs in and return once the model is at its gate with the first of them."""
    task = asyncio.create_task(scheduler.score(pairs, **how))
    await asyncio.to_thread(gate.entered.acquire)
    return task


def test_one_pair_overtakes_a_request_of_500():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 160)
        large = await busy(gate, scheduler, [pair(8)] * 500)
        small = asyncio.create_task(scheduler.score([pair(8, 7)]))
        await asyncio.sleep(0)
        gate.open.release(2)
        assert (await small).logits.tolist() == [7]
        assert not large.done()
        gate.open.release(100)
        assert len((await large).logits) == 500
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [20] * 25 + [1]


def test_failed_run_fails_only_its_own_request():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 160)
        first = await busy(gate, scheduler, [pair(8)])
        bad = asyncio.create_task(scheduler.score([pair(9, 666), *[pair(8)] * 30]))
        good = asyncio.create_task(scheduler.score([pair(8, 5)]))
        await asyncio.sleep(0)
        gate.open.release(100)
        with pytest.raises(ScoringError, match="ValueError"):
            await bad
        assert (await good).logits.tolist() == [5]
        assert (await first).logits.tolist() == [0]
        assert (scheduler.queued_tokens, scheduler.alive) == (0, True)
        await scheduler.close()
        return gate.runs

    runs = asyncio.run(scenario())
    assert 1 in runs[2:]  # the good one, which rode in the failed run, was run again alone
    assert sum(runs) < 1 + 31 + 1 + 31 + 1  # what was left of the failed request is never run


def test_cancelled_request_leaves_the_queue():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 16)
        large = await busy(gate, scheduler, [pair(8)] * 100)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert scheduler.queued_tokens == 0
        gate.open.release(100)
        assert (await scheduler.score([pair(3, 5)])).logits.tolist() == [5]
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [2, 1]


def test_deadline_ends_a_request_that_waits_and_drops_its_work():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 16)
        first = await busy(gate, scheduler, [pair(8)] * 2)
        with pytest.raises(DeadlineError):
            await scheduler.score([pair(8)] * 10, deadline=time.monotonic() + 0.02)
        assert scheduler.queued_tokens == 16
        gate.open.release(100)
        await first
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [2]


def test_bulk_is_queued_apart():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 16)
        bulk = await busy(gate, scheduler, [pair(8)] * 10, priority=Priority.BULK)
        backlog = scheduler.backlog()
        gate.open.release(100)
        await bulk
        await scheduler.close()
        return backlog

    backlog = asyncio.run(scenario())
    assert (backlog.interactive_tokens, backlog.bulk_tokens) == (0, 80)
    assert backlog.oldest_wait_seconds >= 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_inference_thread_that_dies_is_started_again_once():
    async def scenario():
        gate = Gate()
        gate.open.release(100)
        scheduler = scheduler_of(gate, 16)
        with pytest.raises(UnavailableError, match="has ended"):
            await scheduler.score([pair(8, 667)])
        assert scheduler.alive
        assert (await scheduler.score([pair(8, 5)])).logits.tolist() == [5]
        for value in (667, 5):
            with pytest.raises(UnavailableError, match="has ended"):
                await scheduler.score([pair(8, value)])
        assert (scheduler.alive, scheduler.restarts) == (False, 1)
        await scheduler.close()

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_requests_outside_the_fatal_batch_survive_the_restart():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 8)
        fatal = await busy(gate, scheduler, [pair(8, 667)])
        waiting = asyncio.create_task(scheduler.score([pair(8, 5)]))
        await asyncio.sleep(0)
        gate.open.release(100)
        with pytest.raises(UnavailableError):
            await fatal
        assert (await waiting).logits.tolist() == [5]
        await scheduler.close()

    asyncio.run(scenario())


def test_stuck_run_counts_as_dead(monkeypatch):
    monkeypatch.setattr(thread_module, "STALL_SECONDS", 0.0)

    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 16)
        stuck = await busy(gate, scheduler, [pair(8)])
        assert not scheduler.alive
        gate.open.release(1)
        await stuck
        assert scheduler.alive
        await scheduler.close()

    asyncio.run(scenario())


def test_runs_go_side_by_side():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 160, concurrent_runs=2)
        request = await busy(gate, scheduler, [pair(8, place) for place in range(30)])
        await asyncio.to_thread(gate.entered.acquire)  # the second run begins before the first one ends
        gate.open.release(2)
        outcome = await request
        await scheduler.close()
        return gate.runs, outcome.logits.tolist()

    assert asyncio.run(scenario()) == ([15, 15], list(range(30)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_the_runs_beside_it_alone():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 8, concurrent_runs=2)
        fatal = await busy(gate, scheduler, [pair(8, 667)])
        good = await busy(gate, scheduler, [pair(8, 5)])
        gate.open.release(100)
        with pytest.raises(UnavailableError):
            await fatal
        assert (await good).logits.tolist() == [5]
        again = await asyncio.gather(*[scheduler.score([pair(8, 3)]) for _ in range(6)])
        assert [each.logits.tolist() for each in again] == [[3]] * 6
        assert (scheduler.alive, scheduler.restarts, scheduler.queued_tokens) == (True, 1, 0)
        await scheduler.close()

    asyncio.run(scenario())


def test_one_stuck_run_of_two_counts_as_dead(monkeypatch):
    monkeypatch.setattr(thread_module, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(scheduler_module, "CLOSE_SECONDS", 0.05)

    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 8, concurrent_runs=2)
        stuck = await busy(gate, scheduler, [pair(8)])
        while scheduler.alive:
            await asyncio.sleep(0.001)
        gate.open.release(100)
        await stuck
        await scheduler.close()

    asyncio.run(scenario())


def test_closing_fails_what_waits():
    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 8)
        waiting = await busy(gate, scheduler, [pair(8)] * 3)
        gate.open.release(1)
        await scheduler.close()
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            await scheduler.score([pair(8)])

    asyncio.run(scenario())


def test_closing_does_not_wait_for_a_stuck_run(monkeypatch):
    monkeypatch.setattr(scheduler_module, "CLOSE_SECONDS", 0.05)

    async def scenario():
        gate = Gate()
        scheduler = scheduler_of(gate, 8)
        stuck = await busy(gate, scheduler, [pair(8)] * 3)
        closing = asyncio.create_task(scheduler.close())
        with pytest.raises(UnavailableError):
            await stuck
        await asyncio.wait_for(closing, 5)
        gate.open.release(100)

    asyncio.run(scenario())


def test_lone_pairs_do_not_change_what_the_model_is_said_to_do():
    def run(pairs, width):
        time.sleep(0.01)
        return value_of_each(pairs, width)

    async def scenario():
        scheduler = scheduler_of(run, 160)
        scheduler.record_run(160 * 300, 160 * 300, 3.0)
        for _ in range(20):
            await scheduler.score([pair(8)])
        alone = scheduler.tokens_per_second
        await scheduler.score([pair(8)] * 200)
        await scheduler.close()
        return alone, scheduler.tokens_per_second

    alone, busy_speed = asyncio.run(scenario())
    assert alone == 16_000
    assert busy_speed != alone


def test_small_runs_that_are_faster_than_expected_tell_the_speed():
    async def scenario():
        scheduler = Scheduler(value_of_each, SchedulingPolicy(BatchShape(16_384, free_tokens=1024)))
        scheduler.record_run(60, 60, 60.0)  # a machine that stood still while it was warmed up
        await scheduler.score([pair(8)])
        await scheduler.close()
        return scheduler.tokens_per_second

    assert asyncio.run(scenario()) > 2


def test_bulk_work_gives_way_to_another_model():
    async def scenario():
        others, asked = True, threading.Semaphore(0)
        scheduler = Scheduler(value_of_each, SchedulingPolicy(BatchShape(160), bulk_patience_seconds=100))
        scheduler.yield_while(lambda: asked.release() or others)
        bulk = asyncio.create_task(scheduler.score([pair(8, 3)], Priority.BULK))
        for _ in range(3):
            await asyncio.to_thread(asked.acquire)  # each time the answer was to give way
        assert not bulk.done()
        assert (await scheduler.score([pair(8, 5)])).logits.tolist() == [5]
        others = False
        assert (await asyncio.wait_for(bulk, 5)).logits.tolist() == [3]
        await scheduler.close()

    asyncio.run(scenario())


def test_runs_are_reported_with_their_padding():
    reports: list[BatchReport] = []

    async def scenario():
        scheduler = scheduler_of(value_of_each, 100, reports.append)
        outcome = await scheduler.score([pair(20), pair(19)])
        await scheduler.close()
        return scheduler.tokens_per_second, outcome

    speed, outcome = asyncio.run(scenario())
    assert speed > 0
    assert outcome.run_seconds >= 0
    assert [(r.pairs, r.tokens, r.padded_tokens) for r in reports] == [(2, 39, 40)]
