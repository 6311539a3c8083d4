"""The promises of the turns, driven by a clock of the tests: one model second for every 1000 padded tokens."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.batching import Batch, Job, Priority, Shape
from service.errors import DeadlineError
from service.turns import Policy, Turns
from tests.unit.test_batching import pair

TOKENS_PER_SECOND = 1000
lengths = st.lists(st.integers(1, 64), min_size=1, max_size=30)
arrivals = st.lists(
    st.tuples(st.floats(0, 3), lengths, st.sampled_from(Priority), st.sampled_from([math.inf, 0.1, 1.0])),
    min_size=1,
    max_size=12,
)
side_by_side = st.integers(1, 3)
shapes = st.builds(Shape, st.integers(1, 300), st.sampled_from([(), (16, 32, 64)]), st.sampled_from([0, 100]))


@dataclasses.dataclass
class Record:
    """What happened to one request."""

    job: Job
    at: float
    answered: int = 0
    done: float = math.nan


class Simulation:
    """Runs turns against a model of fixed speed; keeps every batch with the time it began."""

    def __init__(self, policy: Policy) -> None:
        self.turns, self.now, self.batches, self.records = Turns(policy), 0.0, [], []
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
            self.turns.add(record.job, self.now)
        most = self.turns.policy.concurrent_runs
        batch = self.turns.next_batch(self.now, most - len(self._under_way)) if len(self._under_way) < most else None
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
        self.turns.speed.add(sum(map(len, pairs)), padded, padded / TOKENS_PER_SECOND)
        self.turns.put(batch, np.array([each.input_ids[0] for each in pairs], dtype=np.float32), self.now)

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
    simulation = simulated(Policy(shape, concurrent_runs=runs), requests)
    for record in simulation.records:
        assert record.answered == 1
        if record.job.error is None:
            assert record.job.logits.tolist() == list(range(len(record.job.pairs)))
        else:
            assert isinstance(record.job.error, DeadlineError)
            assert record.done >= record.job.deadline
    assert set(simulation.turns.queued_tokens.values()) == {0}


@given(arrivals, shapes, side_by_side)
def test_no_pair_is_run_twice_and_no_batch_is_over_budget(requests, shape, runs):
    simulation = simulated(Policy(shape, concurrent_runs=runs), requests)
    seen = set()
    for _, batch, _ in simulation.batches:
        assert batch.rows * batch.width <= shape.max_tokens or batch.rows == 1
        places = {(job, place) for job, places in batch.parts for place in places}
        assert len(places) == batch.rows
        assert not seen & places
        seen |= places


@given(arrivals, shapes, side_by_side)
def test_nothing_expired_is_run(requests, shape, runs):
    for began, _, jobs in simulated(Policy(shape, concurrent_runs=runs), requests).batches:
        assert all(job.deadline > began for job in jobs)


@given(arrivals, st.integers(50, 300), st.floats(0.02, 0.2))
def test_runs_take_no_longer_than_aimed_at(requests, budget, seconds):
    simulation = simulated(Policy(Shape(budget), target_run_seconds=seconds), requests)
    for _, batch, _ in simulation.batches[1:]:  # the first one tells the speed
        assert batch.rows * batch.width <= seconds * TOKENS_PER_SECOND or batch.rows == 1


@given(st.lists(lengths, min_size=1, max_size=6), st.integers(1, 64), st.integers(64, 300))
@example([[11], [59], [2], [34, 32, 1], [1], [1]], 5, 64)  # some are scored beside others and never lead
def test_one_pair_is_in_one_of_the_next_two_runs(others, length, budget):
    simulation = Simulation(Policy(Shape(budget)))
    large = [simulation.request(lengths * 10) for lengths in others]
    simulation.step()
    while any(record.job.new and record.job.missing for record in large):
        simulation.step()
    before = len(simulation.batches)
    small = simulation.request([length], at=simulation.now)
    simulation.run()
    assert simulation.runs_of(small)[0] - before <= 1


@given(st.lists(st.integers(1, 64), min_size=2, max_size=8))
def test_small_requests_that_come_together_are_run_together(each):
    simulation = Simulation(Policy(Shape(max_tokens=64 * 8)))
    simulation.request([64] * 40)
    simulation.step()
    small = [simulation.request([length], at=simulation.now) for length in each]
    simulation.run()
    assert {run for record in small for run in simulation.runs_of(record)} <= {1, 2}


@settings(max_examples=30)
@given(st.integers(20, 60), st.integers(1, 64))
def test_a_stream_of_newcomers_leaves_every_second_run_to_a_large_request(count, length):
    simulation = Simulation(Policy(Shape(128)))
    large = simulation.request([64] * 20)
    for number in range(count):
        simulation.request([length], at=number * 0.05)
    simulation.run()
    led = simulation.runs_of(large)
    assert all(later - earlier <= 2 for earlier, later in itertools.pairwise(led))


def test_what_waits_is_shared_out_among_the_runs_that_are_free():
    simulation = Simulation(Policy(Shape(1000), concurrent_runs=4))
    record = simulation.request([10] * 20)
    simulation.run()
    assert [(at, batch.rows) for at, batch, _ in simulation.batches] == [(0.0, 5)] * 4
    assert record.done == record.job.run_seconds == pytest.approx(0.05)


def test_runs_side_by_side_are_full_where_enough_waits():
    simulation = Simulation(Policy(Shape(100), concurrent_runs=2))
    record = simulation.request([10] * 60)
    simulation.run()
    assert [batch.rows for _, batch, _ in simulation.batches] == [10] * 6
    assert record.done == pytest.approx(0.3)
    assert simulation.turns.tokens_per_second == pytest.approx(2 * TOKENS_PER_SECOND)


def test_a_request_that_would_be_late_takes_the_whole_batch():
    simulation = Simulation(Policy(Shape(100), target_latency_seconds=1.0))
    first = simulation.request([10] * 30)
    for _ in range(9):
        simulation.request([10] * 30, at=0.35)
    simulation.run()
    assert first.done <= 1.2  # sharing equally it would be done after 2.5 seconds or more
    assert max(record.done for record in simulation.records) == pytest.approx(3.0, abs=0.2)


def test_bulk_waits_for_an_idle_model():
    simulation = Simulation(Policy(Shape(100), bulk_patience_seconds=100))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    interactive = [simulation.request([10] * 30, at=at) for at in (0, 0.1, 0.5)]
    simulation.run()
    assert bulk.done > max(record.done for record in interactive)
    assert all(bulk.job not in jobs or jobs == [bulk.job] for _, _, jobs in simulation.batches)


def test_bulk_never_starves():
    simulation = Simulation(Policy(Shape(100), bulk_patience_seconds=1))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    for number in range(100):  # twice what the model can do
        simulation.request([10] * 10, at=number * 0.05)
    simulation.run()
    began = [simulation.batches[run][0] for run in simulation.runs_of(bulk)]
    assert began == pytest.approx([1.0, 2.1, 3.2], abs=0.25)


def test_bulk_never_starves_behind_another_model():
    simulation = Simulation(Policy(Shape(100), bulk_patience_seconds=1))
    bulk = simulation.request([10] * 30, priority=Priority.BULK)
    simulation.turns.others_wait = lambda: True
    simulation.step()
    assert simulation.batches == []
    while not bulk.answered:
        simulation.now += 0.1
        simulation.step()
    began = [at for at, _, _ in simulation.batches]
    assert began == pytest.approx([1.0, 2.0, 3.0], abs=0.25)


def test_bulk_rides_along_where_it_costs_nothing():
    simulation = Simulation(Policy(Shape(100, free_tokens=50), bulk_patience_seconds=100))
    bulk = simulation.request([10] * 8, priority=Priority.BULK)
    for number in range(4):
        simulation.request([10], at=number * 0.001)
    simulation.step()
    assert simulation.batches[0][1].rows == 5
    assert bulk.job.waiting == 4


def test_tokens_before_a_small_request_are_few():
    turns = Turns(Policy(Shape(100)))
    turns.add(Job([pair(10)] * 50, lambda: None), 0.0)
    turns.add(Job([pair(10)] * 2, lambda: None), 0.0)
    turns.add(Job([pair(10)] * 50, lambda: None, Priority.BULK), 0.0)
    assert (turns.tokens_before(10), turns.tokens_before(100), turns.tokens_before(1000)) == (20, 120, 520)
