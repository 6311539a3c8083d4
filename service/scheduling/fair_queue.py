"""Whose turn it is at the model: the scheduler's decisions, without its thread. Times come in from outside.

- Requests take turns at leading a batch, the one that waited longest since its last turn first; in each batch the rows
  are shared equally (`batching`). So nothing starves, and one pair never waits behind all of a request of 500.
- Requests that have not led yet go first, together, but never twice in a row: what is small is answered within about
  two runs, and a stream of small requests leaves every second run to the large ones.
- A request that would be late at half the model's speed takes the whole batch when it leads, most urgent first. One
  that is oversized, so that even alone it would be far too late, is urgent for its own deadline only.
- Bulk work runs when nothing else waits, at this model or another, and rides along where a run costs nothing more for
  it. While others wait, bulk work leads one run every `bulk_patience_seconds` at most: that of the bulk job that has
  been in no run for longest, once this is so long. So each of N bulk jobs is in a run after N times that time.
- Where several runs go side by side, what waits is shared out among those that are free, so that all end together.
- What has expired, or cannot be done by its deadline even if it has the model to itself, is dropped when a batch forms.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.batch_shape import Shape
from service.errors import DeadlineError
from service.scheduling.batching import Batch, Job, Logits, Priority, fill, form_batch
from service.scheduling.throughput import Speed

OVERSIZED = 2.0  # times the target latency that a request would take even alone
HOPE = 1.25  # times the speed of late that a job may need to meet its deadline: the speed is a guess
RUNS_BEFORE = 2  # the one under way, and one of those that are not new


@dataclass(frozen=True, slots=True)
class Policy:
    """What the turns aim at. A run holds `shape.max_tokens` at most, and what takes `target_run_seconds`.

    `concurrent_runs` of them may go side by side, each as fast as if it were alone. After `max_failed_runs` failed ones
    in a row the model may be broken (`service.scheduling.run_health`).
    """

    shape: Shape
    target_run_seconds: float = math.inf
    target_latency_seconds: float = math.inf
    bulk_patience_seconds: float = 2.0
    concurrent_runs: int = 1
    max_failed_runs: int = 5


class Turns:
    """The jobs of one model that are not yet answered, and which of their pairs are next."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.speed = Speed()
        self.others_wait: Callable[[], bool] = lambda: False  # somebody waits for another model of the same machine
        self.queued_tokens = dict.fromkeys(Priority, 0)
        self._jobs: dict[Job, None] = {}  # in order of arrival
        self._oversized: set[Job] = set()  # interactive ones
        self._turn = 0
        self._newcomers_led = False
        self._bulk_led = -math.inf  # when bulk work last led a run

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs))

    @property
    def tokens_per_second(self) -> float:
        """Speed of late of all runs together; 0 before the first."""
        return self.speed.tokens_per_second * self.policy.concurrent_runs

    def add(self, job: Job, now: float) -> None:
        """Take a job in."""
        job.arrived, job.served, job.led = now, now, self._turn
        target, speed = self.policy.target_latency_seconds, self.tokens_per_second
        alone = job.tokens_left / speed if speed else 0.0
        oversized = alone > OVERSIZED * target
        job.due = min(job.deadline, math.inf if oversized else now + target)
        if oversized and job.priority is Priority.INTERACTIVE:
            self._oversized.add(job)
        self._jobs[job] = None
        self.queued_tokens[job.priority] += job.tokens_left

    def forget(self, job: Job) -> None:
        """Drop a job, whatever still waits of it; nothing happens where it is gone already."""
        if job in self._jobs:
            del self._jobs[job]
            self._oversized.discard(job)
            self.queued_tokens[job.priority] -= job.tokens_left

    def end(self, job: Job, error: Exception | None) -> None:
        """Drop a job and tell whoever waits for it."""
        if job in self._jobs:
            self.forget(job)
            job.error = error
            job.finished()

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens are scored before an interactive job of so many would be done.

        Each job that is there gets as much as the new one; but a run under way, and one before its own, go first whole.
        """
        left = [job.tokens_left for job in self._jobs if job.priority is Priority.INTERACTIVE]
        runs = RUNS_BEFORE * self.policy.concurrent_runs * self._shape().max_tokens
        return max(sum([min(each, tokens) for each in left]), min(sum(left), runs))

    def tokens_ahead(self) -> int:
        """Return how many tokens those are that an interactive newcomer must leave time for.

        Of an oversized request that is no more than half of what can be done in time: it takes turns like any other,
        and may not keep everybody else out until it is done.
        """
        most = self.policy.target_latency_seconds * self.tokens_per_second / 2
        over = sum([max(0, job.tokens_left - int(most)) for job in tuple(self._oversized)])  # asked on any thread
        return self.queued_tokens[Priority.INTERACTIVE] - over

    def oldest_arrival(self) -> float | None:
        """Return when the oldest job came in that still has pairs waiting, or None."""
        return next((job.arrived for job in self._jobs if job.waiting), None)

    def next_batch(self, now: float, free_runs: int = 1) -> Batch | None:
        """Drop what is or will be late and return the next batch, or None where nothing waits, or bulk work for others.

        `free_runs` could begin now, this one included.
        """
        self._expire(now)
        waiting = [job for job in self._jobs if job.waiting]
        bulk = sorted([job for job in waiting if job.priority is Priority.BULK], key=_served)
        people = [job for job in waiting if job.priority is Priority.INTERACTIVE]
        overdue = bool(bulk) and now - max(bulk[0].served, self._bulk_led) >= self.policy.bulk_patience_seconds
        if not waiting or (not people and not overdue and self.others_wait()):
            return None
        self._turn += 1
        whole = self._shape()
        shape = _share_of(whole, sum([job.tokens_waiting for job in people or bulk]), free_runs)
        if bulk and (overdue or not people):
            batch = self._lead(bulk + people, shape, shape.max_tokens if people else 1)
            self._bulk_led = now
        else:
            batch = self._interactive(people, shape, now)
            fill(batch, bulk, min(shape.free_tokens, shape.max_tokens) // batch.width - batch.rows)
        left = shape is whole and any(job.waiting for job in waiting)
        batch.full = left or 2 * batch.rows * batch.width >= whole.max_tokens
        for job in batch.jobs:
            job.run_begins(now)
        return batch

    def put(self, batch: Batch, logits: Logits, now: float) -> None:
        """Take in the logits of a batch, in the order of its rows, and end the jobs that are complete."""
        start = 0
        for job, places in batch.parts:
            tokens = job.put(places, logits[start : start + len(places)])
            start += len(places)
            if job in self._jobs:
                self.queued_tokens[job.priority] -= tokens
        for job in batch.jobs:
            job.run_ends(now)
            if not job.missing:
                self.end(job, None)

    def _interactive(self, jobs: list[Job], shape: Shape, now: float) -> Batch:
        """Form the batch of those that somebody waits for: newcomers, the urgent, or the next in turn."""
        jobs = sorted(jobs, key=_turn)
        new = [job for job in jobs if job.new]
        self._newcomers_led = bool(new) and not self._newcomers_led
        if self._newcomers_led:
            group = _newcomers(new, shape)
            group.sort(key=lambda job: -job.longest)  # the longest pair of all sets the width, so that all fit
            first = set(group)
            others = [job for job in jobs if job not in first]
            return self._lead([*group, *others], shape, 1, len(group))
        late = [job for job in jobs if self._is_late(job, now)]
        leader = min(late, key=lambda job: job.due) if late else next((job for job in jobs if not job.new), jobs[0])
        others = [job for job in jobs if job is not leader]
        return self._lead([leader, *others], shape, shape.max_tokens if late else 1)

    def _lead(self, jobs: list[Job], shape: Shape, head_start: int, leaders: int = 1) -> Batch:
        for job in jobs[:leaders]:
            job.led, job.new = self._turn, False
        return form_batch(jobs, shape, head_start, leaders)

    def _shape(self) -> Shape:
        """Return the shape of a batch that takes no longer than aimed at, by the speed of late."""
        shape, speed = self.policy.shape, self.speed.padded_tokens_per_second
        if not speed or math.isinf(self.policy.target_run_seconds):
            return shape
        tokens = max(int(speed * self.policy.target_run_seconds), shape.free_tokens, 1)
        return replace(shape, max_tokens=min(shape.max_tokens, tokens))

    def _is_late(self, job: Job, now: float) -> bool:
        speed = self.tokens_per_second
        return bool(speed) and now + 2 * job.tokens_left / speed > job.due

    def _expire(self, now: float) -> None:
        """Drop jobs whose deadline has passed, or will pass before all that waits of them could be run."""
        most = HOPE * self.speed.padded_tokens_per_second * self.policy.concurrent_runs
        for job in [job for job in self._jobs if not math.isinf(job.deadline)]:
            if job.deadline <= now:
                self.end(job, DeadlineError("the deadline passed while the request waited"))
            elif most and now + job.tokens_waiting / most > job.deadline:
                self.end(job, DeadlineError("the request waited until too little of the time given was left"))


def _share_of(shape: Shape, tokens: int, free_runs: int) -> Shape:
    """Return the shape of one of the free runs that share waiting tokens out, or the shape itself if they fill it."""
    share = max(math.ceil(tokens / free_runs), shape.free_tokens, 1)
    return replace(shape, max_tokens=share) if share < shape.max_tokens and free_runs > 1 else shape


def _turn(job: Job) -> int:
    return job.led


def _served(job: Job) -> tuple[float, int]:
    return job.served, -job.tokens_waiting


def _newcomers(jobs: Sequence[Job], shape: Shape) -> list[Job]:
    """Return the first of the jobs for each of which one row fits into one batch; one job at least."""
    longest = 0
    for count, job in enumerate(jobs):
        longest = max(longest, shape.padded(job.longest))
        if count and (count + 1) * longest > shape.max_tokens:
            return list(jobs[:count])
    return list(jobs)
