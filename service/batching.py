"""Which pairs go into the next model run. Knows token counts and turns; knows no threads, no HTTP and no model.

Pairs of all waiting requests are batched together under a budget of padded tokens. Requests take turns: the one whose
turn it is sets the length of the batch with its longest pair left, and the others fill up with pairs of that length
or less, each with an equal share of the rows. So one pair never waits behind all of a request of 500, and little is
padded.
"""

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from relevance.tokenization import TokenizedPair


class Job:
    """The pairs of one request: which still wait, what came back, and whom to tell when all are scored."""

    def __init__(self, pairs: Sequence[TokenizedPair], finished: Callable[[], object]) -> None:
        self.pairs = pairs
        self.finished = finished
        self.logits = np.zeros(len(pairs), dtype=np.float32)
        self.missing = len(pairs)
        self.tokens_left = sum(map(len, pairs))
        self.error: Exception | None = None
        self._waiting = sorted(range(len(pairs)), key=lambda place: len(pairs[place]))
        self._lengths = [len(pairs[place]) for place in self._waiting]

    @property
    def waiting(self) -> int:
        """How many pairs wait for a batch."""
        return len(self._waiting)

    @property
    def longest(self) -> int:
        """Tokens of the longest waiting pair."""
        return self._lengths[-1]

    def take(self, count: int, width: int) -> list[int]:
        """Take up to `count` waiting pairs of at most `width` tokens, the longest ones; return their places."""
        end = bisect.bisect_right(self._lengths, width)
        start = max(0, end - count)
        taken = self._waiting[start:end]
        del self._waiting[start:end], self._lengths[start:end]
        return taken

    def put(self, place: int, logit: float) -> None:
        """Keep the logit of the pair at `place`."""
        self.logits[place] = logit
        self.missing -= 1
        self.tokens_left -= len(self.pairs[place])


def form_batch(jobs: Sequence[Job], max_batch_tokens: int) -> list[tuple[Job, int]]:
    """Take the next batch off jobs that wait, the first one's turn it is; return rows of (job, place of the pair).

    Rows x tokens of the longest pair stays within `max_batch_tokens`, unless one pair alone is longer.
    """
    first, width = jobs[0], jobs[0].longest
    batch = [(first, place) for place in first.take(1, width)]
    room = max_batch_tokens // width - 1
    turns = [*jobs[1:], first]  # the first one last, since it also takes what the others leave
    while room > 0:
        before = room
        for left, job in zip(range(len(turns), 0, -1), turns, strict=True):
            taken = job.take(-(-room // left), width)
            batch += [(job, place) for place in taken]
            room -= len(taken)
        if room == before:
            break
    return batch
