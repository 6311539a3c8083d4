"""The promises of the fair queue, on a clock of the tests: one second of model time per 1000 padded tokens."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.batch_shape import BatchShape
from service.errors import DeadlineError
from service.scheduling.batching import Batch
from service.scheduling.fair_queue import DEADLINE_SLACK, FairQueue, SchedulingPolicy
from service.scheduling.job import Job, Priority
from tests.unit.service.scheduling.test_batching import pair

TOKENS_PER_SECOND = 1000
lengths = st.lists(st.integers(1, 64), min_size=1, max_size=30)
arrivals = st.lists(
    st.tuples(st.floats(0, 3), lengths, st.sampled_from(Priority), st.sampled_from([math.inf, 0.1, 1.0])),
    min_size=1,
    max_size=12,
)
side_by_side = st.integers(1, 3)
shapes = st.builds(BatchShape, st.integers(1, 300), st.sampled_from([(), (16, 32, 64)]), st.sampled_from([0, 100]))


@dataclasses.dataclass
class Record:
    """What happened to one request."""

    job: Job
    at: float
    answered: int = 0
    done: float = math.nan


class Simulation:
    """Runs a fair queue against a model of fixed throughput. Keeps every batch with its start time."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self.queue, self.now, self.batches, self.records = FairQueue(policy), 0.0, [], []
        self._coming: list[Record] = []
        self._under_way: list[tuple[float, Batch]] = []

    def request(self, lengths, at=0.0, priority=Priority.INTERACTIVE, within=math.inf) -> Record:
        record = Record(None, at)

        def finished():
            record.answered += 1
            record.done = self.now

        pairs = [pair(length, place) for place, length in enumerate(lengths)]
        record.job = Job(pairs, finished, priority, at + within)
        self._coming = sorted([*self._coming, record], key=lambda each: each.at)
        self.records.append(record)
        return record

    def step(self) -> bool:
        """Let in who has come, begin a run, and end one where none more can begin; False once all is done."""
        while self._coming and self._coming[0].at <= self.now:
            record = self._coming.pop(0)
            self.queue.add(record.job, self.now)
        most = self.queue.policy.concurrent_runs
        batch = self.queue.next_batch(self.now, most - len(self._under_way)) if len(self._under_way) < most else None
        if batch is not None:
            self.batches.append((self.now, batch, batch.jobs))
            self._under_way.append((self.now + batch.rows * batch.width / TOKENS_PER_SECOND, batch))
            if len(self._under_way) < most:
                return True
        ends = min((end for end, _ in self._under_way), default=math.inf)
        if self._coming and (not self._under_way or (len(self._under_way) < most and self._coming[0].at < ends)):
            self.now = max(self.now, self._coming[0].at)
            return True
        if self._under_way:
            self._end_one()
            return True
        return False

    def _end_one(self) -> None:
        self._under_way.sort(key=lambda each: -each[0])
        self.now, batch = self._under_way.pop()
        pairs, padded = batch.pairs, batch.rows * batch.width
        self.queue.throughput.add(sum(map(len, pairs)), padded, padded / TOKENS_PER_SECOND)
        self.queue.complete(batch, np.array([each.input_ids[0] for each in pairs], dtype=np.float32), self.now)

    def run(self) -> None:
        while self.step():
            pass

    def runs_of(self, record: Record) -> list[int]:
        return [i for i, (_, _, jobs) in enumerate(self.batches) if record.job in jobs]


def simulated(policy, requests) -> Simulation:
    simulation = Simulation(policy)
    for at, lengths, priority, within in requests:
        simulation.request(lengths, at, priority, within)
    simulation.run()
    return simulation


@given(arrivals, shapes, side_by_side)
def test_every_request_is_answered_once_with_its_own_logits_or_a_deadline_error(requests, shape, runs):
    simulation = simulated(SchedulingPolicy(shape, concurrent_runs=runs), requests)
    for record in simulation.records:
        assert record.answered == 1
        if record.job.error is None:
            assert record.job.logits.tolist() == list(range(len(record.job.pairs)))
        else:
            assert isinstance(record.job.error, DeadlineError)
            left = record.job.tokens_waiting / (TOKENS_PER_SECOND * runs)
            assert record.done + left >= record.job.deadline  # it could not have been done any more
    assert set(simulation.queue.queued_tokens.values()) == {0}


@given(arrivals, shapes, side_by_side)
def test_no_pair_is_run_twice_and_no_batch_is_over_budget(requests, shape, runs):
    simulation = simulated(SchedulingPolicy(shape, concurrent_runs=runs), requests)
    seen = set()
    for _, batch, _ in simulation.batches:
        assert batch.rows * batch.width <= shape.max_tokens or batch.rows == 1
        places = {(job, place) for job, places in batch.parts for place in places}
        assert len(places) == batch.rows
        assert not seen & places
        seen |= places


@given(arrivals, shapes, side_by_side)
def test_nothing_expired_is_run(requests, shape, runs):
    for began, _, jobs in simulated(SchedulingPolicy(shape, concurrent_runs=runs), requests).batches:
        assert all(job.deadline > began for job in jobs)


@given(arrivals, st.integers(50, 300), st.floats(0.02, 0.2))
def test_runs_take_no_longer_than_aimed_at(requests, budget, seconds):
    simulation = simulated(SchedulingPolicy(BatchShape(budget), target_run_seconds=seconds), requests)
    for _, batch, _ in simulation.batches[1:]:  # the first one tells the speed
        assert batch.rows * batch.width <= seconds * TOKENS_PER_SECOND or batch.rows == 1


@given(st.lists(lengths, min_size=1, max_size=6), st.integers(1, 64), st.integers(64, 300))
@example([[11], [59], [2], [34, 32, 1], [1], [1]], 5, 64)  # some are scored beside others and never lead
def test_one_pair_is_in_one_of_the_next_two_runs(others, length, budget):
    simulation = Simulation(SchedulingPolicy(BatchShape(budget)))
    large = [simulation.request(lengths * 10) for lengths in others]
    simulation.step()
    while any(record.job.is_new and record.job.pairs_left for record in large):
        simulation.step()
    before = len(simulation.batches)
    small = simulation.request([length], at=simulation.now)
    simulation.run()
    assert simulation.runs_of(small)[0] - before <= 1


@given(st.lists(st.integers(1, 64), min_size=2, max_size=8))
def test_small_requests_that_come_together_are_run_together(each):
    simulation = Simulation(SchedulingPolicy(BatchShape(max_tokens=64 * 8)))
    simulation.request([64] * 40)
    simulation.step()
    small = [simulation.request([length], at=simulation.now) for length in each]
    simulation.run()
    assert {run for record in small for run in simulation.runs_of(record)} <= {1, 2}


@settings(max_examples=30)
@given(st.integers(20, 60), st.integers(1, 64))
def test_a_stream_of_newcomers_leaves_every_second_run_to_a_large_request(count, length):
    simulation = Simulation(SchedulingPolicy(BatchShape(128)))
    large = simulation.request([64] * 20)
    for number in range(count):
        simulation.request([length], at=number * 0.05)
    simulation.run()
    led = simulation.runs_of(large)
    assert all(later - earlier <= 2 for earlier, later in itertools.pairwise(led))


def test_what_waits_is_shared_out_among_the_runs_that_are_free():
    simulation = Simulation(SchedulingPolicy(BatchShape(1000), concurrent_runs=4))
    record = simulation.request([10] * 20)
    simulation.run()
    assert [(at, batch.rows) for at, batch, _ in simulation.batches] == [(0.0, 5)] * 4
    assert record.done == record.job.run_seconds == pytest.approx(0.05)


def test_runs_side_by_side_are_full_where_enough_waits():
    simulation = Simulation(SchedulingPolicy(BatchShape(100), concurrent_runs=2))
    record = simulation.request([10] * 60)
    simulation.run()
    assert [batch.rows for _, batch, _ in simulation.batches] == [10] * 6
    assert record.done == pytest.approx(0.3)
    assert simulation.queue.tokens_per_second == pytest.approx(2 * TOKENS_PER_SECOND)


def test_a_request_that_would_be_late_takes_the_whole_batch():
    simulation = Simulation(SchedulingPolicy(BatchShape(100), target_latency_seconds=1.0))
    first = simulation.request([10] * 30)
    for _ in range(9):
        simulation.request([10] * 30, at=0.35)
    simulation.run()
    assert first.done <= 1.2  # sharing equally it would be done after 2.5 seconds or more
    assert max(record.done for record in simulation.records) == pytest.approx(3.0, abs=0.2)


def test_bulk_waits_for_an_idle_model():
    simulation = Simulation(SchedulingPolicy(BatchShape(100), bulk_patience_seconds=100))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    interactive = [simulation.request([10] * 30, at=at) for at in (0, 0.1, 0.5)]
    simulation.run()
    assert bulk.done > max(record.done for record in interactive)
    assert all(bulk.job not in jobs or jobs == [bulk.job] for _, _, jobs in simulation.batches)


def test_bulk_never_starves():
    simulation = Simulation(SchedulingPolicy(BatchShape(100), bulk_patience_seconds=1))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    for number in range(100):  # twice what the model can do
        simulation.request([10] * 10, at=number * 0.05)
    simulation.run()
    began = [simulation.batches[run][0] for run in simulation.runs_of(bulk)]
    assert began == pytest.approx([1.0, 2.1, 3.2], abs=0.25)


def test_bulk_never_starves_behind_another_model():
    simulation = Simulation(SchedulingPolicy(BatchShape(100), bulk_patience_seconds=1))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    simulation.queue.others_wait = lambda: True
    simulation.step()
    assert simulation.batches == []
    while not bulk.answered:
        simulation.now += 0.1
        simulation.step()
    began = [at for at, _, _ in simulation.batches]
    assert began == pytest.approx([1.0, 2.0, 3.0], abs=0.25)


def test_bulk_rides_along_where_it_costs_nothing():
    simulation = Simulation(SchedulingPolicy(BatchShape(100, free_tokens=50), bulk_patience_seconds=100))
    bulk = simulation.request([10] * 8, priority=Priority.BULK)
    for number in range(4):
        simulation.request([10], at=number * 0.001)
    simulation.step()
    assert simulation.batches[0][1].rows == 5
    assert bulk.job.waiting == 4


def test_tokens_before_a_small_request_are_those_of_two_runs():
    queue = FairQueue(SchedulingPolicy(BatchShape(100)))
    queue.add(Job([pair(10)] * 50, lambda: None), 0.0)
    queue.add(Job([pair(10)] * 2, lambda: None), 0.0)
    queue.add(Job([pair(10)] * 50, lambda: None, Priority.BULK), 0.0)
    assert [queue.tokens_before(tokens) for tokens in (10, 100, 300, 1000)] == [200, 200, 320, 520]


bulk_jobs = st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=40), min_size=1, max_size=5)


def under_load(bulk, length, policy):
    """Bulk jobs that come at once, while requests of some 64 tokens come twice as fast as they can be run, for 6 s."""
    simulation = Simulation(policy)
    jobs = [simulation.request(lengths, priority=Priority.BULK) for lengths in bulk]
    interactive = [simulation.request([length] * (64 // length), at=number * 0.032) for number in range(200)]
    simulation.run()
    return simulation, jobs, interactive


def test_bulk_of_long_pairs_does_not_starve_while_short_ones_ride_along():
    """An interactive request of one short pair always waits: the short bulk pairs are in every run."""
    simulation = Simulation(SchedulingPolicy(BatchShape(128, free_tokens=64), bulk_patience_seconds=0.1))
    long = simulation.request([64] * 6, priority=Priority.BULK)
    short = simulation.request([1] * 5000, priority=Priority.BULK)
    while simulation.now < 2 and short.job.waiting:
        simulation.request([1], at=simulation.now)
        simulation.step()
    assert len(simulation.runs_of(short)) > 10
    assert long.done <= 1.0  # three runs of its own, each after its patience and the run under way


@settings(max_examples=40)
@given(bulk_jobs, st.integers(1, 64), st.sampled_from([0, 64, 128]))
def test_each_bulk_job_is_in_a_run_after_its_patience_times_their_number(bulk, length, free_tokens):
    patience = 1.0
    policy = SchedulingPolicy(BatchShape(128, free_tokens=free_tokens), bulk_patience_seconds=patience)
    simulation, jobs, _ = under_load(bulk, length, policy)
    longest_run = 128 / TOKENS_PER_SECOND
    for record in jobs:
        began = [0.0] + [simulation.batches[run][0] for run in simulation.runs_of(record)]
        most = (len(jobs) + 1) * patience + 2 * longest_run
        assert all(later - earlier <= most for earlier, later in itertools.pairwise(began))


@settings(max_examples=40)
@given(bulk_jobs, st.integers(1, 64))
def test_bulk_jobs_together_lead_one_run_in_each_patience_while_others_wait(bulk, length):
    patience = 1.0
    simulation, jobs, interactive = under_load(
        bulk, length, SchedulingPolicy(BatchShape(128), bulk_patience_seconds=patience)
    )
    of_bulk = {record.job for record in jobs}
    all_done = max(record.done for record in interactive)
    led = [at for at, batch, _ in simulation.batches if batch.parts[0][0] in of_bulk and at < all_done]
    busy = [at for at in led if any(record.at <= at < record.done for record in interactive)]
    assert all(later - earlier >= patience for earlier, later in itertools.pairwise(busy))


@settings(max_examples=40)
@given(st.integers(2, 5), st.integers(1, 64))
def test_equal_bulk_jobs_move_on_equally(count, length):
    simulation = Simulation(SchedulingPolicy(BatchShape(128)))
    jobs = [simulation.request([length] * 40, priority=Priority.BULK) for _ in range(count)]
    rows = 0
    while simulation.step():
        waiting = [record.job.waiting for record in jobs]
        rows = max([rows, *(batch.rows for _, batch, _ in simulation.batches)])
        assert max(waiting) - min(waiting) <= rows + count
    assert all(record.job.error is None for record in jobs)


@given(arrivals, shapes, side_by_side)
def test_no_run_holds_a_job_that_cannot_be_done_by_its_deadline(requests, shape, runs):
    """With the margin that the speed of late is given."""
    simulation = Simulation(SchedulingPolicy(shape, concurrent_runs=runs))
    simulation.queue.throughput.add(TOKENS_PER_SECOND, TOKENS_PER_SECOND, 1.0)
    for at, of_request, priority, within in requests:
        simulation.request(of_request, at, priority, within)
    known = 0
    while simulation.step():
        for began, batch, jobs in simulation.batches[known:]:
            for job in jobs:
                waited = job.tokens_waiting + sum(
                    len(each.pairs[place].input_ids) for each, places in batch.parts if each is job for place in places
                )
                assert began + waited / (DEADLINE_SLACK * TOKENS_PER_SECOND * runs) <= job.deadline + 1e-9
        known = len(simulation.batches)


def test_a_job_that_comes_too_late_leaves_the_model_to_others():
    """40 pairs of 10 tokens take 0.4 s: with 0.2 s left none of them is run."""
    simulation = Simulation(SchedulingPolicy(BatchShape(100)))
    simulation.queue.throughput.add(1000, 1000, 1.0)
    hopeless = simulation.request([10] * 40, within=0.2)
    other = simulation.request([10] * 10, within=0.2)
    simulation.run()
    assert isinstance(hopeless.job.error, DeadlineError)
    assert (simulation.runs_of(hopeless), hopeless.done, hopeless.answered) == ([], 0.0, 1)
    assert (other.job.error, other.done) == (None, pytest.approx(0.1))
