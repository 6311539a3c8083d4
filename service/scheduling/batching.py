"""Which pairs of the waiting requests make up one model run. Knows token counts; knows no threads, clock or model.

The request that leads a batch sets its width with its longest pair left; the others fill up with pairs of about that
width, the longest of those first, each with an equal share of the rows. So requests are scored side by side, each from
its long pairs to its short ones, and little is padded.
"""

import bisect
import math
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from relevance.tokenization import TokenizedPair
from service.batch_shape import Shape

Logits = NDArray[np.float32]


class Priority(IntEnum):
    """How a request is treated: somebody waits for an interactive one; a bulk one takes what is left over."""

    INTERACTIVE = 0
    BULK = 1


class Job:
    """The pairs of one request: which still wait, what came back, and whom to tell when all are scored.

    Times are seconds of the clock that the scheduler is driven by.
    """

    def __init__(
        self,
        pairs: Sequence[TokenizedPair],
        finished: Callable[[], object],
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
    ) -> None:
        self.pairs, self.finished, self.priority, self.deadline = pairs, finished, priority, deadline
        self.logits = np.zeros(len(pairs), dtype=np.float32)
        self.missing = len(pairs)
        self.error: Exception | None = None
        self.run_seconds = 0.0  # in which at least one run had pairs of it
        self.queue_seconds = 0.0  # all other time until it was done
        self._runs, self._running_since = 0, 0.0
        self.arrived = self.due = 0.0
        self.served = 0.0  # when it last had pairs in a run, or came in
        self.led = -1  # the last turn that it led, or the turn that it came in at
        self.new = True  # has not led yet
        lengths = [len(pair.input_ids) for pair in pairs]
        self.tokens = self.tokens_left = self.tokens_waiting = sum(lengths)
        self._waiting = sorted(range(len(pairs)), key=lengths.__getitem__)
        self._lengths = sorted(lengths)

    @property
    def waiting(self) -> int:
        """How many pairs wait for a batch."""
        return len(self._waiting)

    @property
    def longest(self) -> int:
        """Tokens of the longest waiting pair."""
        return self._lengths[-1]

    def above(self, width: int) -> int | None:
        """Tokens of the shortest waiting pair that is longer than `width`, None where there is none."""
        place = bisect.bisect_right(self._lengths, width)
        return self._lengths[place] if place < len(self._lengths) else None

    def below(self, width: int) -> int | None:
        """Tokens of the longest waiting pair of at most `width`, None where there is none."""
        place = bisect.bisect_right(self._lengths, width)
        return self._lengths[place - 1] if place else None

    def take(self, count: int, width: int, least: int = 0) -> list[int]:
        """Take up to `count` waiting pairs of `least` to `width` tokens, the longest ones; return their places."""
        end = bisect.bisect_right(self._lengths, width)
        start = max(bisect.bisect_left(self._lengths, least), end - count)
        taken = self._waiting[start:end]
        self.tokens_waiting -= sum(self._lengths[start:end])
        del self._waiting[start:end], self._lengths[start:end]
        return taken

    def run_begins(self, now: float) -> None:
        """Note that a run has pairs of this job; several may at once."""
        self.served = now
        self._runs += 1
        if self._runs == 1:
            self._running_since = now

    def run_ends(self, now: float) -> None:
        """Note that one of these runs is over."""
        self._runs -= 1
        if not self._runs:
            self.run_seconds += now - self._running_since

    def put(self, places: Sequence[int], logits: Logits) -> int:
        """Keep the logits of the pairs at `places`; return how many tokens these have."""
        self.logits[places] = logits
        self.missing -= len(places)
        tokens = sum([len(self.pairs[place].input_ids) for place in places])
        self.tokens_left -= tokens
        return tokens


class Batch:
    """Pairs of one or more jobs that are run together, padded to `width`."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self.full = False  # as large as it may be, or not all had room: its speed tells what the model can do
        self.parts: list[tuple[Job, list[int]]] = []

    def add(self, job: Job, count: int, least: int = 0) -> int:
        """Move up to `count` pairs of `least` tokens to the width from a job into the batch; return how many."""
        if taken := job.take(count, self.width, least) if count > 0 else []:
            self.parts.append((job, taken))
            self.rows += len(taken)
        return len(taken)

    @property
    def pairs(self) -> list[TokenizedPair]:
        """The pairs in the order of the rows."""
        return [job.pairs[place] for job, places in self.parts for place in places]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that take part, each once."""
        return list(dict.fromkeys(job for job, _ in self.parts))


def form_batch(jobs: Sequence[Job], shape: Shape, head_start: int = 1, leaders: int = 1) -> Batch:
    """Take the next batch off jobs that wait, the first of which lead and take up to `head_start` rows each beforehand.

    The longest pair of the first sets the width; what is much shorter than that waits for a batch of its own length,
    unless it costs next to nothing. Rows x width stays within `shape.max_tokens`, unless one pair alone is longer.
    """
    batch = Batch(shape.padded(jobs[0].longest))
    for leader in jobs[:leaders]:
        batch.add(leader, min(head_start, shape.rows(batch.width) - batch.rows))
    turns, spare = [*jobs[leaders:], *jobs[:leaders]], shape.free_tokens  # who leads also takes what the others leave
    while True:
        fill(batch, turns, shape.rows(batch.width) - batch.rows, shape.least(batch.width))
        spare -= _fill_short(batch, jobs, shape.rows(batch.width) - batch.rows, spare)
        longer = [above for job in turns if (above := job.above(batch.width)) is not None]
        if not longer or batch.rows >= shape.rows(batch.width):
            return batch
        width = shape.padded(min(longer))
        spare -= batch.rows * (width - batch.width)
        if spare < 0 or batch.rows >= shape.rows(width):
            return batch
        batch.width = width


def fill(batch: Batch, jobs: Sequence[Job], room: int, least: int = 0) -> None:
    """Give up to `room` rows of a batch to jobs, in equal shares as far as they have pairs of `least` to its width."""
    before = -1
    while room > 0 and room != before:
        before = room
        for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
            room -= batch.add(job, -(-room // left), least) if job.waiting else 0


def _fill_short(batch: Batch, jobs: Sequence[Job], room: int, spare: int) -> int:
    """Give up to `room` rows to shorter pairs while they are padded by `spare` tokens at most; return how much."""
    padding = 0
    for job in jobs:
        while room > 0 and (below := job.below(batch.width)) and padding + batch.width - below <= spare:
            padding += batch.width - below
            room -= batch.add(job, 1)
    return padding
