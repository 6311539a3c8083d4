"""Runs the model for many requests at once: the event loop hands pairs in, the model's inference threads score them.

Each of these threads makes one run after another, side by side with the others. A batch starts as soon as one of them
is free; nothing waits for a batch to fill. Whose pairs it holds is decided in `fair_queue`. `Scheduler` is all that
the rest of the service knows of this file.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from relevance.tokenization import TokenizedPair
from service.errors import DeadlineError, ScoringError, UnavailableError
from service.scheduling.batching import Batch, Job, Priority
from service.scheduling.fair_queue import Policy, Turns
from service.scheduling.inference_thread import Runner
from service.scheduling.run_health import Run, RunHealth

log = logging.getLogger(__name__)

RESTARTS = 1
YIELD_SECONDS = 0.005  # how often bulk work that gives way to another model looks whether it still has to
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One model run: its pairs, their tokens, the tokens with padding, and how long it took."""

    pairs: int
    tokens: int
    padded_tokens: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What waits at a model: tokens of interactive requests, of bulk ones, and how long the oldest has waited."""

    queued_tokens: int
    bulk_tokens: int
    oldest_seconds: float


class Scheduler(Protocol):
    """What the service needs of a scheduler; everything is called from the event loop."""

    @property
    def queued_tokens(self) -> int:
        """Tokens of interactive requests taken in and not yet scored."""

    @property
    def tokens_ahead(self) -> int:
        """Those of them that a newcomer must leave time for; see `service.scheduling.fair_queue`."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of late; 0 before the first run."""

    @property
    def alive(self) -> bool:
        """Whether the inference threads can still score, and the last runs have not all failed."""

    @property
    def fault(self) -> str | None:
        """Why `alive` is false, or None."""

    def load(self) -> Load:
        """Return what waits."""

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens are scored before an interactive request of so many would be done."""

    async def score(self, pairs: Sequence[TokenizedPair], priority: Priority = ..., deadline: float = ...) -> Job:
        """Score pairs by a deadline on the clock `time.monotonic`.

        Raises ScoringError, DeadlineError or UnavailableError.
        """

    async def close(self) -> None:
        """Fail what still waits and end the inference threads."""


class TurnScheduler:
    """The scheduler of one model: requests take turns at its inference threads (see `fair_queue`)."""

    def __init__(
        self,
        run: Run,
        policy: Policy,
        observe: Callable[[BatchReport], None] = lambda report: None,
        name: str = "inference",
    ) -> None:
        self.restarts = 0
        self._health = RunHealth(run, policy.max_failed_runs)
        self._run, self._observe = self._health.run, observe
        self._turns = Turns(policy)
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above
        self._runners = [Runner(f"{name}-{number}") for number in range(policy.concurrent_runs)]
        for runner in self._runners:
            runner.start(self._work)

    @property
    def queued_tokens(self) -> int:
        """Tokens of interactive requests taken in and not yet scored."""
        return self._turns.queued_tokens[Priority.INTERACTIVE]

    @property
    def tokens_ahead(self) -> int:
        """Those of them that a newcomer must leave time for; see `service.scheduling.fair_queue`."""
        return self._turns.tokens_ahead()

    @property
    def tokens_per_second(self) -> float:
        """Speed of late; 0 before the first run."""
        return self._turns.tokens_per_second

    @property
    def alive(self) -> bool:
        """Whether the inference threads can still score, and the last runs have not all failed."""
        return self.fault is None

    @property
    def fault(self) -> str | None:
        """Why `alive` is false, or None."""
        if not self._running:
            return "an inference thread has ended, or is stuck in a run"
        return f"the last {self._health.failed} model runs failed" if self._health.broken else None

    @property
    def _running(self) -> bool:
        return not self._closed and all(runner.alive for runner in self._runners)

    def load(self) -> Load:
        """Return what waits."""
        with self._changed:
            oldest, queued = self._turns.oldest_arrival(), self._turns.queued_tokens
            seconds = 0.0 if oldest is None else time.monotonic() - oldest
            return Load(queued[Priority.INTERACTIVE], queued[Priority.BULK], seconds)

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens are scored before an interactive request of so many would be done."""
        with self._changed:
            return self._turns.tokens_before(tokens)

    def give_way(self, others_wait: Callable[[], bool]) -> None:
        """Let bulk work wait while `others_wait` says so, as it waits for this model's own requests."""
        with self._changed:
            self._turns.others_wait = others_wait

    def prime(self, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Tell the speed from a run outside of the scheduler, as in warming up."""
        with self._changed:
            self._turns.speed.add(tokens, padded_tokens, seconds)

    async def score(
        self,
        pairs: Sequence[TokenizedPair],
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
    ) -> Job:
        """Return the finished job of pairs, by a deadline on `time.monotonic`.

        Raises ScoringError, DeadlineError or UnavailableError.
        """
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        job = Job(pairs, lambda: loop.call_soon_threadsafe(answered.set), priority, deadline)
        began = time.monotonic()
        with self._changed:
            if not self._running:
                raise UnavailableError("an inference thread has ended")
            self._turns.add(job, began)
            self._changed.notify()
        try:
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - began):
                await answered.wait()
        except TimeoutError:
            job.error = DeadlineError("the deadline passed before all pairs were scored")
        finally:  # a cancelled request leaves the queue at once
            with self._changed:
                self._turns.forget(job)
        if job.error is not None:
            try:
                raise job.error
            finally:
                job.error = None  # it keeps this frame, which keeps the job: so the model would stay in memory
        job.queue_seconds = max(0.0, time.monotonic() - began - job.run_seconds)
        return job

    async def close(self) -> None:
        """Fail what still waits and end the inference threads; one that is stuck in a run is left behind."""
        with self._changed:
            self._closed = True
            for job in self._turns:
                self._turns.end(job, UnavailableError("an inference thread has ended"))
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_SECONDS
        for runner in self._runners:
            await asyncio.to_thread(runner.thread.join, max(0.0, until - time.monotonic()))
            if runner.thread.is_alive():
                log.error("an inference thread is stuck in a run and is left behind", extra={"inference": runner.name})

    def _work(self, runner: Runner) -> None:
        try:
            while batch := self._next_batch(runner):
                self._score(runner, batch)
        except Exception:
            log.exception("an inference thread has a fault")
        finally:  # also where the thread dies of something else: nobody may wait for ever
            with self._changed:
                self._ended(runner)

    def _ended(self, runner: Runner) -> None:
        """Start a thread again where one died for the first time, without the batch that killed it."""
        error = UnavailableError("an inference thread has ended")
        again = not self._closed and self.restarts < RESTARTS
        for job in runner.batch.jobs if again and runner.batch is not None else self._turns:
            self._turns.end(job, error)
        if again:
            self.restarts += 1
            log.error("an inference thread died and is started again", extra={"inference": runner.name})
            runner.start(self._work)
        else:
            self._closed = True
            self._changed.notify_all()

    def _next_batch(self, runner: Runner) -> Batch | None:
        """Wait for work and return the next batch, or None once closed."""
        with self._changed:
            runner.batch = None
            while not self._closed:
                free = sum([each.batch is None for each in self._runners])
                runner.batch = self._turns.next_batch(time.monotonic(), free)
                waits = self._turns.oldest_arrival() is not None
                if runner.batch is not None:
                    if waits and free > 1:
                        self._changed.notify()  # the next one that is free
                    return runner.batch
                self._changed.wait(YIELD_SECONDS if waits else None)
                runner.busy_since = time.monotonic()
            return None

    def _score(self, runner: Runner, batch: Batch) -> None:
        try:
            self._score_rows(runner, batch)
        except Exception as error:
            log.exception("a model run failed", extra={"pairs": batch.rows, "requests": len(batch.jobs)})
            for job in batch.jobs:
                self._score_alone(runner, batch, job, error)

    def _score_alone(self, runner: Runner, batch: Batch, job: Job, error: Exception) -> None:
        """Run a job's pairs of a failed batch without the others' pairs, so that only the faulty one fails."""
        alone = Batch(batch.width)
        alone.parts = [part for part in batch.parts if part[0] is job]
        alone.rows = sum(len(places) for _, places in alone.parts)
        if len(batch.jobs) > 1 and job in self._turns:
            try:
                self._score_rows(runner, alone)
                return
            except Exception as again:
                log.exception("a model run failed again, for one request", extra={"pairs": alone.rows})
                error = again
        with self._changed:
            name = type(error).__name__
            self._turns.end(job, ScoringError(f"the model run failed ({name}); see the service's log"))

    def _score_rows(self, runner: Runner, batch: Batch) -> None:
        """Run a batch and hand out its logits."""
        pairs = batch.pairs
        runner.began = began = time.monotonic()
        try:
            logits = self._run(pairs, batch.width)
        finally:
            runner.began = math.inf
        tokens, padded = sum([len(pair.input_ids) for pair in pairs]), batch.width * len(pairs)
        self._observe(BatchReport(len(pairs), tokens, padded, time.monotonic() - began))
        with self._changed:
            now, speed = time.monotonic(), self._turns.speed
            seconds, runner.busy_since = now - runner.busy_since, now  # what lies between runs takes time too
            if batch.full or tokens > seconds * speed.tokens_per_second:  # it can do that at least
                speed.add(tokens, padded, seconds)
            self._turns.put(batch, logits, now)
