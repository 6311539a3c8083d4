"""Runs the model for many requests at once: the event loop hands pairs in, one inference thread a model scores them.

A batch starts as soon as the model is free; nothing waits for a batch to fill. `Scheduler` is all that the rest of the
service knows of this file.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.tokenization import TokenizedPair
from service.batching import Job, form_batch
from service.errors import ScoringError, UnavailableError

log = logging.getLogger(__name__)

Logits = NDArray[np.float32]
Run = Callable[[Sequence[TokenizedPair]], Logits]

SPEED_MEMORY = 0.9  # weight of the past in the moving average of tokens a second


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One model run: its pairs, their tokens, the tokens with padding, and how long it took."""

    pairs: int
    tokens: int
    padded_tokens: int
    duration_seconds: float


class Scheduler(Protocol):
    """What the service needs of a scheduler; everything is called from the event loop."""

    @property
    def queued_tokens(self) -> int:
        """Tokens taken in and not yet scored."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of late, a moving average over model runs; 0 before the first."""

    @property
    def alive(self) -> bool:
        """Whether the inference thread can still score."""

    async def score(self, pairs: Sequence[TokenizedPair]) -> Logits:
        """Return logits [N] in the order of the pairs. Raises ScoringError or UnavailableError."""

    async def close(self) -> None:
        """Fail what still waits and end the inference thread."""


class TurnScheduler:
    """The scheduler of one model: requests take turns at its inference thread (see `service.batching`)."""

    def __init__(
        self,
        run: Run,
        max_batch_tokens: int,
        observe: Callable[[BatchReport], None] = lambda report: None,
        name: str = "inference",
    ) -> None:
        self.queued_tokens = 0
        self.tokens_per_second = 0.0
        self._run, self._max_batch_tokens, self._observe = run, max_batch_tokens, observe
        self._open: set[Job] = set()  # not yet answered
        self._turns: list[Job] = []  # those of them with pairs that wait, next turn first
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the inference thread can still score."""
        return self._thread.is_alive() and not self._closed

    async def score(self, pairs: Sequence[TokenizedPair]) -> Logits:
        """Return logits [N] in the order of the pairs. Raises ScoringError or UnavailableError."""
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        job = Job(pairs, finished=lambda: loop.call_soon_threadsafe(answered.set))
        with self._changed:
            if not self.alive:
                raise UnavailableError("the inference thread has ended")
            self._open.add(job)
            self._turns.append(job)
            self.queued_tokens += job.tokens_left
            self._changed.notify()
        try:
            await answered.wait()
        finally:  # a cancelled request leaves the queue at once
            with self._changed:
                self._forget(job)
        if job.error is not None:
            raise job.error
        return job.logits

    async def close(self) -> None:
        """Fail what still waits and end the inference thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._score(batch)
        finally:  # also where the thread dies of a fault: nobody may wait for ever
            with self._changed:
                self._closed = True
                for job in list(self._open):
                    self._end(job, UnavailableError("the inference thread has ended"))

    def _next_batch(self) -> list[tuple[Job, int]]:
        """Wait for work and return the next batch, or nothing once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._turns)
            if self._closed:
                return []
            batch = form_batch(self._turns, self._max_batch_tokens)
            self._turns = [job for job in [*self._turns[1:], self._turns[0]] if job.waiting]
            return batch

    def _score(self, batch: list[tuple[Job, int]]) -> None:
        pairs = [job.pairs[place] for job, place in batch]
        started = time.perf_counter()
        try:
            logits = self._run(pairs).tolist()
        except Exception as error:
            log.exception("a model run failed", extra={"pairs": len(pairs)})
            with self._changed:
                for job in {job for job, _ in batch} & self._open:
                    self._end(
                        job, ScoringError(f"the model run failed ({type(error).__name__}); see the service's log")
                    )
            return
        self._report(pairs, time.perf_counter() - started)
        with self._changed:
            for (job, place), pair, logit in zip(batch, pairs, logits, strict=True):
                job.put(place, logit)
                self.queued_tokens -= len(pair) if job in self._open else 0
            for job in {job for job, _ in batch} & self._open:
                if not job.missing:
                    self._end(job, None)

    def _report(self, pairs: list[TokenizedPair], duration_seconds: float) -> None:
        lengths = list(map(len, pairs))
        report = BatchReport(len(pairs), sum(lengths), max(lengths) * len(pairs), duration_seconds)
        speed = report.tokens / max(duration_seconds, 1e-9)
        past = self.tokens_per_second
        self.tokens_per_second = SPEED_MEMORY * past + (1 - SPEED_MEMORY) * speed if past else speed
        self._observe(report)

    def _end(self, job: Job, error: Exception | None) -> None:
        job.error = error
        self._forget(job)
        job.finished()

    def _forget(self, job: Job) -> None:
        if job in self._open:
            self._open.discard(job)
            self.queued_tokens -= job.tokens_left
            self._turns = [other for other in self._turns if other is not job]
