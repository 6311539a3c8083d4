import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tokenization import TokenizedPair
from service.batching import Job, form_batch
from service.errors import ScoringError, UnavailableError
from service.scheduler import BatchReport, TurnScheduler

lengths_of_requests = st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=30), min_size=1, max_size=6)


def pair(length: int, value: int = 0) -> TokenizedPair:
    return TokenizedPair([value] * length, [0] * length, truncated=False)


def value_of_each(pairs):
    return np.array([pair.input_ids[0] for pair in pairs], dtype=np.float32)


def batches_of(jobs: list[Job], budget: int) -> list[list[tuple[Job, int]]]:
    """All batches until nothing waits, the turn moving on after each."""
    batches = []
    while jobs:
        batches.append(form_batch(jobs, budget))
        jobs = [job for job in [*jobs[1:], jobs[0]] if job.waiting]
    return batches


def jobs_of(requests: list[list[int]]) -> list[Job]:
    return [Job([pair(length) for length in lengths], finished=lambda: None) for lengths in requests]


@given(lengths_of_requests, st.integers(1, 300))
def test_batch_never_exceeds_token_budget_unless_one_pair_does(requests, budget):
    for batch in batches_of(jobs_of(requests), budget):
        width = max(len(job.pairs[place]) for job, place in batch)
        assert len(batch) * width <= budget or len(batch) == 1


@given(lengths_of_requests, st.integers(1, 300))
def test_every_pair_is_batched_exactly_once(requests, budget):
    jobs = jobs_of(requests)
    rows = [row for batch in batches_of(jobs, budget) for row in batch]
    expected = {(job, place) for job in jobs for place in range(len(job.pairs))}
    assert set(rows) == expected
    assert len(rows) == len(expected)


@given(lengths_of_requests, st.integers(1, 64), st.integers(64, 300))
def test_one_pair_is_batched_within_one_round_of_turns(requests, length, budget):
    small = jobs_of([[length]])[0]
    batches = batches_of([*jobs_of(requests), small], budget)
    assert any(job is small for batch in batches[: len(requests) + 1] for job, _ in batch)


def test_equal_requests_share_a_batch_equally():
    jobs = jobs_of([[8] * 50, [8] * 50])
    batch = form_batch(jobs, 160)
    assert [sum(job is each for job, _ in batch) for each in jobs] == [10, 10]


def test_a_batch_is_filled_where_others_leave_room():
    jobs = jobs_of([[8] * 3, [8] * 50, [20] * 5])  # the third is too long for the first one's batch
    assert len(form_batch(jobs, 160)) == 20


def test_pairs_of_one_length_are_batched_together():
    batches = batches_of(jobs_of([[10, 50, 10, 50, 10, 50]]), 150)
    assert [sorted({len(job.pairs[place]) for job, place in batch}) for batch in batches] == [[50], [10]]


@given(lengths_of_requests, st.integers(1, 300))
def test_every_logit_lands_at_its_place(requests, budget):
    numbered = [[pair(length, 1000 * r + i) for i, length in enumerate(lengths)] for r, lengths in enumerate(requests)]

    async def scenario():
        scheduler = TurnScheduler(value_of_each, budget)
        answers = await asyncio.gather(*[scheduler.score(pairs) for pairs in numbered])
        assert scheduler.queued_tokens == 0
        await scheduler.close()
        return answers

    for pairs, logits in zip(numbered, asyncio.run(scenario()), strict=True):
        assert logits.tolist() == [pair.input_ids[0] for pair in pairs]


class Gate:
    """A model that waits at a gate before each run, so that tests decide what happens while it is busy."""

    def __init__(self):
        self.entered, self.open = threading.Semaphore(0), threading.Semaphore(0)
        self.runs = []

    def __call__(self, pairs):
        self.entered.release()
        self.open.acquire()
        self.runs.append(len(pairs))
        if any(pair.input_ids[0] == 666 for pair in pairs):
            raise ValueError("bad pair")
        return value_of_each(pairs)


async def busy(gate: Gate, scheduler: TurnScheduler, pairs: list[TokenizedPair]) -> asyncio.Task:
    """Hand pairs in and return once the model is at its gate with the first of them."""
    task = asyncio.create_task(scheduler.score(pairs))
    await asyncio.to_thread(gate.entered.acquire)
    return task


def test_one_pair_overtakes_a_request_of_500():
    async def scenario():
        gate = Gate()
        scheduler = TurnScheduler(gate, max_batch_tokens=160)
        large = await busy(gate, scheduler, [pair(8)] * 500)
        small = asyncio.create_task(scheduler.score([pair(8, 7)]))
        await asyncio.sleep(0)
        gate.open.release(2)
        assert (await small).tolist() == [7]
        assert not large.done()
        gate.open.release(100)
        assert len(await large) == 500
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [20] * 25 + [1]


def test_failed_run_fails_only_its_own_requests():
    async def scenario():
        gate = Gate()
        scheduler = TurnScheduler(gate, max_batch_tokens=16)
        bad = await busy(gate, scheduler, [pair(9, 666), pair(8), pair(8), pair(8)])
        good = asyncio.create_task(scheduler.score([pair(8, 5)]))
        await asyncio.sleep(0)
        gate.open.release(100)
        with pytest.raises(ScoringError, match="ValueError"):
            await bad
        assert (await good).tolist() == [5]
        assert (scheduler.queued_tokens, scheduler.alive) == (0, True)
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [1, 1]  # what was left of the failed request is never run


def test_cancelled_request_leaves_the_queue():
    async def scenario():
        gate = Gate()
        scheduler = TurnScheduler(gate, max_batch_tokens=16)
        large = await busy(gate, scheduler, [pair(8)] * 100)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert scheduler.queued_tokens == 0
        gate.open.release(100)
        assert (await scheduler.score([pair(3, 5)])).tolist() == [5]
        await scheduler.close()
        return gate.runs

    assert asyncio.run(scenario()) == [2, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_inference_thread_fails_what_waits_and_is_seen():
    def exit_thread(pairs):
        raise SystemExit

    async def scenario():
        scheduler = TurnScheduler(exit_thread, max_batch_tokens=16)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="has ended"):
                await scheduler.score([pair(8)])
        assert not scheduler.alive
        await scheduler.close()

    asyncio.run(scenario())


def test_closing_fails_what_waits():
    async def scenario():
        gate = Gate()
        scheduler = TurnScheduler(gate, max_batch_tokens=8)
        waiting = await busy(gate, scheduler, [pair(8)] * 3)
        gate.open.release(1)
        await scheduler.close()
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            await scheduler.score([pair(8)])

    asyncio.run(scenario())


def test_runs_are_reported_with_their_padding():
    reports: list[BatchReport] = []

    async def scenario():
        scheduler = TurnScheduler(value_of_each, 100, reports.append)
        await scheduler.score([pair(10), pair(4)])
        await scheduler.close()
        return scheduler.tokens_per_second

    assert asyncio.run(scenario()) > 0
    assert [(r.pairs, r.tokens, r.padded_tokens) for r in reports] == [(2, 14, 20)]
