"""Partial scoring with a real scheduler, whose model takes a known time for each token."""

import asyncio
import time

import numpy as np
import pytest

from relevance.text.tokenization import TokenizedPair
from service.batch_shape import CPU_SHAPE
from service.errors import DeadlineError, OverloadedError, ScoringError
from service.scheduling.fair_queue import SchedulingPolicy
from service.scheduling.job import Priority
from service.scheduling.scheduler import Scheduler
from service.scoring.admission import Admission
from service.scoring.partial import score_first
from service.scoring.stage import Run

TOKENS_PER_SECOND = 500
PAIRS = [TokenizedPair([1] * (5 + n % 20), [], truncated=False) for n in range(200)]  # 2,900 tokens: 5.8 s
TOKENS = sum(len(pair.input_ids) for pair in PAIRS)


def slow(pairs, width, factor=1.0):
    time.sleep(factor * len(pairs) * width / TOKENS_PER_SECOND)
    return np.array([len(pair.input_ids) for pair in pairs], dtype=np.float32)


def scoring(scheduler, pairs, jobs):
    """Return what `score_first` calls; it adds each finished job to `jobs`."""

    async def score(start, end, until):
        jobs.append(await scheduler.score(pairs[start:end], Priority.INTERACTIVE, until))
        return Run.of(jobs[-1])

    return score


def scored(pairs, seconds, run=slow, known=True, most=10**6):
    """Score in the time given; return the jobs and the seconds that it took."""

    async def go():
        scheduler = Scheduler(run, SchedulingPolicy(CPU_SHAPE, target_run_seconds=0.1))
        if known:
            scheduler.record_run(TOKENS_PER_SECOND, TOKENS_PER_SECOND, 1.0)
        began, jobs = time.monotonic(), []
        try:
            score = scoring(scheduler, pairs, jobs)
            runs = await score_first(score, Admission(scheduler, most, 10.0), pairs, began + seconds)
            assert [len(run.logits) for run in runs] == [len(job.pairs) for job in jobs]
            return jobs, time.monotonic() - began
        finally:
            await scheduler.close()

    return asyncio.run(go())


def test_request_with_time_enough_is_one_job():
    jobs, _ = scored(PAIRS, 60, run=lambda pairs, width: slow(pairs, width, factor=0.05))
    assert [job.pairs for job in jobs] == [PAIRS]


def test_first_pairs_are_scored_in_the_time_given_and_the_others_left_out():
    jobs, seconds = scored(PAIRS, 2.5)
    done = [pair for job in jobs for pair in job.pairs]
    assert done == PAIRS[: len(done)]
    assert 0.1 * TOKENS < sum(job.tokens for job in jobs) < TOKENS
    assert np.concatenate([job.logits for job in jobs]).tolist() == [len(pair.input_ids) for pair in done]
    assert seconds < 2.5 + 1.0  # a busy machine


def test_model_slower_than_thought_still_gives_a_part():
    jobs, _ = scored(PAIRS, 4.0, run=lambda pairs, width: slow(pairs, width, factor=1.5))
    assert 0 < sum(job.tokens for job in jobs) < TOKENS


def test_time_for_less_than_twice_one_pair_scores_one():
    long = [TokenizedPair([1] * 500, [], truncated=False)] * 3  # a second each, as far as is known
    jobs, _ = scored(long, 1.9, run=lambda pairs, width: slow(pairs, width, factor=0.1))
    assert len(jobs[0].pairs) == 1


def test_nothing_scored_is_the_error_of_any_other_request():
    with pytest.raises(DeadlineError):
        scored(PAIRS, 0.006)


def test_queue_without_room_is_overloaded():
    async def go():
        scheduler = Scheduler(slow, SchedulingPolicy(CPU_SHAPE))
        scheduler.record_run(TOKENS_PER_SECOND, TOKENS_PER_SECOND, 1.0)
        try:
            other = asyncio.create_task(scheduler.score(PAIRS))
            await asyncio.sleep(0)
            admission = Admission(scheduler, 100, 10.0)
            with pytest.raises(OverloadedError):
                await score_first(scoring(scheduler, PAIRS, []), admission, PAIRS, time.monotonic() + 60)
            other.cancel()
        finally:
            await scheduler.close()

    asyncio.run(go())


def test_failed_model_run_is_no_partial_result():
    def failing(pairs, width):
        raise ValueError("broken")

    with pytest.raises(ScoringError):
        scored(PAIRS, 60, run=failing)
