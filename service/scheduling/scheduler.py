"""Runs one model for many requests at once. The event loop adds pairs; the model's inference threads score them.

Each thread makes one run after another, side by side with the others. A batch starts as soon as a thread is free;
nothing waits for a batch to fill. `fair_queue` decides whose pairs it holds. Knows neither texts nor thresholds, and
the model only as a function.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relevance.text.tokenization import TokenizedPair
from service.errors import DeadlineError, ScoringError, UnavailableError
from service.scheduling.batching import Batch
from service.scheduling.fair_queue import FairQueue, SchedulingPolicy
from service.scheduling.inference_thread import InferenceThread
from service.scheduling.job import Job, Priority
from service.scheduling.run_health import Run, RunHealth

log = logging.getLogger(__name__)

MAX_RESTARTS = 1  # of inference threads
YIELD_SECONDS = 0.005  # how often bulk work that yields to another model checks whether it still must
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One model run: its pairs, their tokens without and with padding, and its duration."""

    pairs: int
    tokens: int
    padded_tokens: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog of a model: tokens of interactive and of bulk requests, and the age of the oldest waiting request."""

    interactive_tokens: int
    bulk_tokens: int
    oldest_wait_seconds: float

    @classmethod
    def of_all(cls, backlogs: Sequence["Backlog"]) -> "Backlog":
        """Return the backlog of several models together."""
        return cls(
            sum(backlog.interactive_tokens for backlog in backlogs),
            sum(backlog.bulk_tokens for backlog in backlogs),
            max(backlog.oldest_wait_seconds for backlog in backlogs),
        )


class Scheduler:
    """The scheduler of one model. Its public methods are called on the event loop."""

    def __init__(
        self,
        run: Run,
        policy: SchedulingPolicy,
        observe: Callable[[BatchReport], None] = lambda report: None,
        name: str = "inference",
    ) -> None:
        self.restarts = 0
        self._health = RunHealth(run, policy.max_failed_runs)
        self._run, self._observe = self._health.run, observe
        self._queue = FairQueue(policy)
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above
        self._threads = [InferenceThread(f"{name}-{number}") for number in range(policy.concurrent_runs)]
        for thread in self._threads:
            thread.start(self._work)

    @property
    def queued_tokens(self) -> int:
        """Tokens of interactive requests that are admitted and not yet scored."""
        return self._queue.queued_tokens[Priority.INTERACTIVE]

    @property
    def backlog_tokens(self) -> int:
        """The backlog, in tokens, used to admit a new request (`FairQueue.backlog_tokens`)."""
        return self._queue.backlog_tokens()

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput; 0 before the first run."""
        return self._queue.tokens_per_second

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
        return not self._closed and all(thread.alive for thread in self._threads)

    def backlog(self) -> Backlog:
        """Return the backlog."""
        with self._changed:
            oldest, queued = self._queue.oldest_arrival(), self._queue.queued_tokens
            seconds = 0.0 if oldest is None else time.monotonic() - oldest
            return Backlog(queued[Priority.INTERACTIVE], queued[Priority.BULK], seconds)

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens run before a new interactive request of `tokens` tokens is done, without its own."""
        with self._changed:
            return self._queue.tokens_before(tokens)

    def yield_while(self, others_wait: Callable[[], bool]) -> None:
        """Let bulk work wait while `others_wait` is true, as it waits for this model's own interactive requests."""
        with self._changed:
            self._queue.others_wait = others_wait

    def record_run(self, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Add a run that was made outside the scheduler, such as a warm-up run, to the throughput."""
        with self._changed:
            self._queue.throughput.add(tokens, padded_tokens, seconds)

    async def score(
        self,
        pairs: Sequence[TokenizedPair],
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
    ) -> Job:
        """Return the finished job of pairs. `deadline` is on `time.monotonic`.

        Raises ScoringError, DeadlineError or UnavailableError.
        """
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        job = Job(pairs, lambda: loop.call_soon_threadsafe(answered.set), priority, deadline)
        began = time.monotonic()
        with self._changed:
            if not self._running:
                raise UnavailableError("an inference thread has ended")
            self._queue.add(job, began)
            self._changed.notify()
        try:
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - began):
                await answered.wait()
        except TimeoutError:
            job.error = DeadlineError("the deadline passed before all pairs were scored")
        finally:  # a cancelled request leaves the queue at once
            with self._changed:
                self._queue.remove(job)
        if job.error is not None:
            try:
                raise job.error
            finally:
                job.error = None  # the error keeps this frame and so the job: the model would stay in memory
        job.queue_seconds = max(0.0, time.monotonic() - began - job.run_seconds)
        return job

    async def close(self) -> None:
        """Fail all waiting requests and end the inference threads. A thread that is stuck in a run is abandoned."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                self._queue.finish(job, UnavailableError("an inference thread has ended"))
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            await asyncio.to_thread(thread.handle.join, max(0.0, until - time.monotonic()))
            if thread.handle.is_alive():
                log.error(
                    "an inference thread is stuck in a run and is abandoned", extra={"inference_thread": thread.name}
                )

    def _work(self, thread: InferenceThread) -> None:
        try:
            while batch := self._next_batch(thread):
                self._score(thread, batch)
        except Exception:
            log.exception("inference thread failed")
        finally:  # also if the thread dies of a BaseException: no caller may wait for ever
            with self._changed:
                self._restart_or_close(thread)

    def _restart_or_close(self, thread: InferenceThread) -> None:
        """Restart the first thread that dies, without the batch that killed it; close the scheduler after another."""
        error = UnavailableError("an inference thread has ended")
        again = not self._closed and self.restarts < MAX_RESTARTS
        for job in thread.batch.jobs if again and thread.batch is not None else self._queue:
            self._queue.finish(job, error)
        if again:
            self.restarts += 1
            log.error("inference thread died: restarted", extra={"inference_thread": thread.name})
            thread.start(self._work)
        else:
            self._closed = True
            self._changed.notify_all()

    def _next_batch(self, thread: InferenceThread) -> Batch | None:
        """Wait for work and return the next batch. None: the scheduler is closed."""
        with self._changed:
            thread.batch = None
            while not self._closed:
                free = sum([each.batch is None for each in self._threads])
                thread.batch = self._queue.next_batch(time.monotonic(), free)
                waits = self._queue.oldest_arrival() is not None
                if thread.batch is not None:
                    if waits and free > 1:
                        self._changed.notify()  # another free thread
                    return thread.batch
                self._changed.wait(YIELD_SECONDS if waits else None)
                thread.busy_since = time.monotonic()
            return None

    def _score(self, thread: InferenceThread, batch: Batch) -> None:
        try:
            self._score_rows(thread, batch)
        except Exception as error:
            log.exception("a model run failed", extra={"pairs": batch.rows, "requests": len(batch.jobs)})
            for job in batch.jobs:
                self._score_alone(thread, batch, job, error)

    def _score_alone(self, thread: InferenceThread, batch: Batch, job: Job, error: Exception) -> None:
        """Retry one job of a failed batch on its own, so that only the faulty job fails."""
        alone = Batch(batch.width)
        alone.parts = [part for part in batch.parts if part[0] is job]
        alone.rows = sum(len(places) for _, places in alone.parts)
        if len(batch.jobs) > 1 and job in self._queue:
            try:
                self._score_rows(thread, alone)
                return
            except Exception as again:
                log.exception("a model run failed again, for one request", extra={"pairs": alone.rows})
                error = again
        with self._changed:
            name = type(error).__name__
            self._queue.finish(job, ScoringError(f"the model run failed ({name}); see the service's log"))

    def _score_rows(self, thread: InferenceThread, batch: Batch) -> None:
        """Run a batch and store its logits in its jobs."""
        pairs = batch.pairs
        thread.run_began = began = time.monotonic()
        try:
            logits = self._run(pairs, batch.width)
        finally:
            thread.run_began = math.inf
        tokens, padded = sum([len(pair.input_ids) for pair in pairs]), batch.width * len(pairs)
        self._observe(BatchReport(len(pairs), tokens, padded, time.monotonic() - began))
        with self._changed:
            now, throughput = time.monotonic(), self._queue.throughput
            seconds, thread.busy_since = now - thread.busy_since, now  # the time between runs counts too
            if batch.full or tokens > seconds * throughput.tokens_per_second:  # it shows what the model can do
                throughput.add(tokens, padded, seconds)
            self._queue.complete(batch, logits, now)
