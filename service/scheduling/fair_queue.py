"""Decides which pairs run next. Knows no threads, no model and no clock: the caller passes the time in.

- Jobs take turns at leading a batch; the one that led longest ago is next. All jobs share the rows of each batch
  equally (`batching`). So no job starves, and one pair never waits behind all of a request of 500 pairs.
- New jobs lead together before all others, but never twice in a row. So a small request is answered within about two
  runs, and a stream of small requests leaves every second run to the large ones.
- A job that would be late at half the model's throughput is urgent: it takes the whole batch when it leads, the most
  urgent first. An oversized job, which would be far too late even alone, is urgent only for its own deadline.
- Bulk jobs run if nothing else waits, at this model or another, and fill rows that cost no extra time. While others
  wait, bulk work leads one run per `bulk_patience_seconds` at most: that of the bulk job that has gone without a run
  for longest. So with N bulk jobs, each is in a run after N times that time.
- If several runs may go side by side, the waiting tokens are divided among the free ones, so that all end together.
- When a batch forms, jobs are dropped that have expired, or would miss their deadline even with the model to
  themselves.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.batch_shape import BatchShape
from service.errors import DeadlineError
from service.scheduling.batching import Batch, fill, form_batch
from service.scheduling.job import Job, Logits, Priority
from service.scheduling.throughput import Throughput

OVERSIZED_FACTOR = 2.0  # a job is oversized if it alone takes longer than this many target latencies
DEADLINE_SLACK = 1.25  # a job is kept if it can meet its deadline at this many times the measured throughput
RUNS_BEFORE = 2  # the current run, and one of jobs that are not new


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """What the queue aims at. A run holds at most `shape.max_tokens`, and what takes `target_run_seconds`.

    Up to `concurrent_runs` run side by side, each as fast as if it were alone. After `max_failed_runs` consecutive
    failures the model may be broken (`service.scheduling.run_health`).
    """

    shape: BatchShape
    target_run_seconds: float = math.inf
    target_latency_seconds: float = math.inf
    bulk_patience_seconds: float = 2.0
    concurrent_runs: int = 1
    max_failed_runs: int = 5


class FairQueue:
    """The unanswered jobs of one model, and which of their pairs run next. The caller holds a lock around each call."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self.policy = policy
        self.throughput = Throughput()
        self.others_wait: Callable[[], bool] = lambda: False  # whether another model of this machine has a backlog
        self.queued_tokens = dict.fromkeys(Priority, 0)  # admitted and not yet scored
        self._jobs: dict[Job, None] = {}  # in order of arrival
        self._oversized: set[Job] = set()  # interactive ones
        self._round = 0
        self._new_jobs_led = False  # in the last interactive round
        self._bulk_led_at = -math.inf

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs))

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput of all concurrent runs together; 0 before the first run."""
        return self.throughput.tokens_per_second * self.policy.concurrent_runs

    def add(self, job: Job, now: float) -> None:
        """Add a job."""
        job.arrived, job.last_run_at, job.last_led_round = now, now, self._round
        target, speed = self.policy.target_latency_seconds, self.tokens_per_second
        alone = job.tokens_left / speed if speed else 0.0
        oversized = alone > OVERSIZED_FACTOR * target
        job.due = min(job.deadline, math.inf if oversized else now + target)
        if oversized and job.priority is Priority.INTERACTIVE:
            self._oversized.add(job)
        self._jobs[job] = None
        self.queued_tokens[job.priority] += job.tokens_left

    def remove(self, job: Job) -> None:
        """Remove a job and its waiting pairs, if it is in the queue."""
        if job in self._jobs:
            del self._jobs[job]
            self._oversized.discard(job)
            self.queued_tokens[job.priority] -= job.tokens_left

    def finish(self, job: Job, error: Exception | None) -> None:
        """Remove a job and notify its caller, if it is in the queue."""
        if job in self._jobs:
            self.remove(job)
            job.error = error
            job.on_done()

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens run before a new interactive job of `tokens` tokens is done, without its own.

        Each job in the queue gets as much as the new one. The current run, and one before its own, run in full.
        """
        left = [job.tokens_left for job in self._jobs if job.priority is Priority.INTERACTIVE]
        runs = RUNS_BEFORE * self.policy.concurrent_runs * self._run_shape().max_tokens
        return max(sum([min(each, tokens) for each in left]), min(sum(left), runs))

    def backlog_tokens(self) -> int:
        """Return the backlog, in tokens, used to admit a new request. Safe to call without the lock.

        An oversized request counts at most half the target capacity: it takes turns like any other job, and must not
        keep all others out until it is done.
        """
        most = self.policy.target_latency_seconds * self.tokens_per_second / 2
        excess = sum([max(0, job.tokens_left - int(most)) for job in tuple(self._oversized)])
        return self.queued_tokens[Priority.INTERACTIVE] - excess

    def oldest_arrival(self) -> float | None:
        """Return when the oldest job with waiting pairs arrived, or None."""
        return next((job.arrived for job in self._jobs if job.waiting), None)

    def next_batch(self, now: float, free_runs: int = 1) -> Batch | None:
        """Drop jobs that are or will be late, and return the next batch.

        None: no pair waits, or only bulk work while another model has a backlog. `free_runs` runs could begin now, this
        one included.
        """
        self._drop_late(now)
        waiting = [job for job in self._jobs if job.waiting]
        bulk = sorted([job for job in waiting if job.priority is Priority.BULK], key=_bulk_order)
        interactive = [job for job in waiting if job.priority is Priority.INTERACTIVE]
        overdue = bool(bulk) and now - max(bulk[0].last_run_at, self._bulk_led_at) >= self.policy.bulk_patience_seconds
        if not waiting or (not interactive and not overdue and self.others_wait()):
            return None
        self._round += 1
        whole = self._run_shape()
        shape = _divided(whole, sum([job.tokens_waiting for job in interactive or bulk]), free_runs)
        if bulk and (overdue or not interactive):
            batch = self._lead(bulk + interactive, shape, shape.max_tokens if interactive else 1)
            self._bulk_led_at = now
        else:
            batch = self._interactive_batch(interactive, shape, now)
            fill(batch, bulk, min(shape.free_tokens, shape.max_tokens) // batch.width - batch.rows)
        pairs_left = shape is whole and any(job.waiting for job in waiting)
        batch.full = pairs_left or 2 * batch.rows * batch.width >= whole.max_tokens
        for job in batch.jobs:
            job.begin_run(now)
        return batch

    def complete(self, batch: Batch, logits: Logits, now: float) -> None:
        """Store the logits [B] of a batch, in the order of its rows, and finish the jobs that are complete."""
        start = 0
        for job, places in batch.parts:
            tokens = job.store(places, logits[start : start + len(places)])
            start += len(places)
            if job in self._jobs:
                self.queued_tokens[job.priority] -= tokens
        for job in batch.jobs:
            job.end_run(now)
            if not job.pairs_left:
                self.finish(job, None)

    def _interactive_batch(self, jobs: list[Job], shape: BatchShape, now: float) -> Batch:
        """Form a batch of interactive jobs, led by the new ones, by the most urgent one, or by the next in turn."""
        jobs = sorted(jobs, key=_round_order)
        new = [job for job in jobs if job.is_new]
        self._new_jobs_led = bool(new) and not self._new_jobs_led
        if self._new_jobs_led:
            group = _fitting_together(new, shape)
            group.sort(key=lambda job: -job.longest)  # the longest pair of all sets the width, so that all fit
            first = set(group)
            others = [job for job in jobs if job not in first]
            return self._lead([*group, *others], shape, 1, len(group))
        urgent = [job for job in jobs if self._is_urgent(job, now)]
        leader = min(urgent, key=lambda job: job.due) if urgent else next((j for j in jobs if not j.is_new), jobs[0])
        others = [job for job in jobs if job is not leader]
        return self._lead([leader, *others], shape, shape.max_tokens if urgent else 1)

    def _lead(self, jobs: list[Job], shape: BatchShape, leader_rows: int, leaders: int = 1) -> Batch:
        for job in jobs[:leaders]:
            job.last_led_round, job.is_new = self._round, False
        return form_batch(jobs, shape, leader_rows, leaders)

    def _run_shape(self) -> BatchShape:
        """Return the shape of a batch that takes at most `target_run_seconds` at the recent throughput."""
        shape, speed = self.policy.shape, self.throughput.padded_tokens_per_second
        if not speed or math.isinf(self.policy.target_run_seconds):
            return shape
        tokens = max(int(speed * self.policy.target_run_seconds), shape.free_tokens, 1)
        return replace(shape, max_tokens=min(shape.max_tokens, tokens))

    def _is_urgent(self, job: Job, now: float) -> bool:
        speed = self.tokens_per_second
        return bool(speed) and now + 2 * job.tokens_left / speed > job.due

    def _drop_late(self, now: float) -> None:
        """Drop jobs whose deadline has passed, or will pass before all their waiting pairs could run."""
        most = DEADLINE_SLACK * self.throughput.padded_tokens_per_second * self.policy.concurrent_runs
        for job in [job for job in self._jobs if not math.isinf(job.deadline)]:
            if job.deadline <= now:
                self.finish(job, DeadlineError("the deadline passed while the request waited"))
            elif most and now + job.tokens_waiting / most > job.deadline:
                self.finish(job, DeadlineError("the request waited until too little of the time given was left"))


def _divided(shape: BatchShape, tokens: int, free_runs: int) -> BatchShape:
    """Return the shape of one of `free_runs` runs that divide `tokens`, or the shape itself if they fill it."""
    share = max(math.ceil(tokens / free_runs), shape.free_tokens, 1)
    return replace(shape, max_tokens=share) if share < shape.max_tokens and free_runs > 1 else shape


def _round_order(job: Job) -> int:
    return job.last_led_round


def _bulk_order(job: Job) -> tuple[float, int]:
    return job.last_run_at, -job.tokens_waiting


def _fitting_together(jobs: Sequence[Job], shape: BatchShape) -> list[Job]:
    """Return the first jobs that fit into one batch with one row each; at least one job."""
    longest = 0
    for count, job in enumerate(jobs):
        longest = max(longest, shape.padded_length(job.longest))
        if count and (count + 1) * longest > shape.max_tokens:
            return list(jobs[:count])
    return list(jobs)
