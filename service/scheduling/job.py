"""The pairs of one request while they wait and run. Knows token counts; knows no threads, clock or model."""

import bisect
import math
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from relevance.text.tokenization import TokenizedPair

Logits = NDArray[np.float32]


class Priority(IntEnum):
    """The class of a request: a caller waits for an interactive one; a bulk one uses spare capacity."""

    INTERACTIVE = 0
    BULK = 1


class Job:
    """The pairs of one request: which of them wait, their logits, and what to call when all are scored.

    Times are seconds of the clock that drives the scheduler.
    """

    def __init__(
        self,
        pairs: Sequence[TokenizedPair],
        on_done: Callable[[], object],
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
    ) -> None:
        self.pairs, self.on_done, self.priority, self.deadline = pairs, on_done, priority, deadline
        self.logits = np.zeros(len(pairs), dtype=np.float32)
        self.pairs_left = len(pairs)  # not yet scored
        self.error: Exception | None = None
        self.run_seconds = 0.0  # during which at least one run held pairs of this job
        self.queue_seconds = 0.0  # all other time until it was done
        self._runs, self._running_since = 0, 0.0
        self.arrived = self.due = 0.0
        self.last_run_at = 0.0  # when a run last began with pairs of this job; its arrival before the first
        self.last_led_round = -1  # the round that it last led; the round of its arrival before the first
        self.is_new = True  # it has not led a round yet
        lengths = [len(pair.input_ids) for pair in pairs]
        self.tokens = self.tokens_left = self.tokens_waiting = sum(lengths)  # all; not yet scored; not yet in a run
        self._waiting = sorted(range(len(pairs)), key=lengths.__getitem__)
        self._lengths = sorted(lengths)

    @property
    def waiting(self) -> int:
        """How many pairs wait for a run."""
        return len(self._waiting)

    @property
    def longest(self) -> int:
        """Tokens of the longest waiting pair."""
        return self._lengths[-1]

    def shortest_above(self, width: int) -> int | None:
        """Tokens of the shortest waiting pair that is longer than `width`, or None."""
        place = bisect.bisect_right(self._lengths, width)
        return self._lengths[place] if place < len(self._lengths) else None

    def longest_within(self, width: int) -> int | None:
        """Tokens of the longest waiting pair of at most `width`, or None."""
        place = bisect.bisect_right(self._lengths, width)
        return self._lengths[place - 1] if place else None

    def take(self, count: int, width: int, min_length: int = 0) -> list[int]:
        """Remove up to `count` waiting pairs of `min_length` to `width` tokens, the longest; return their places."""
        end = bisect.bisect_right(self._lengths, width)
        start = max(bisect.bisect_left(self._lengths, min_length), end - count)
        taken = self._waiting[start:end]
        self.tokens_waiting -= sum(self._lengths[start:end])
        del self._waiting[start:end], self._lengths[start:end]
        return taken

    def begin_run(self, now: float) -> None:
        """Record that a run with pairs of this job begins. Several may run at once."""
        self.last_run_at = now
        self._runs += 1
        if self._runs == 1:
            self._running_since = now

    def end_run(self, now: float) -> None:
        """Record that one of these runs has ended."""
        self._runs -= 1
        if not self._runs:
            self.run_seconds += now - self._running_since

    def store(self, places: Sequence[int], logits: Logits) -> int:
        """Store the logits of the pairs at `places`; return the number of their tokens."""
        self.logits[places] = logits
        self.pairs_left -= len(places)
        tokens = sum([len(self.pairs[place].input_ids) for place in places])
        self.tokens_left -= tokens
        return tokens
