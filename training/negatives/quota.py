"""How many negatives one language still needs, and which of its positive rows give the next ones.

A positive row is named by its rank: its place in the order, drawn by the seed, in which rows are asked.
"""

import random
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.negatives.report import LanguageReport

Ranks = NDArray[np.int32]
_BLOCK = 65_536  # ranks


def drawn_ranks(count: int, seed: str) -> Ranks:
    """Return the rank of each of a language's positive rows [count], which are in the order of all rows."""
    order = array("i", range(count))
    random.Random(seed).shuffle(order)
    ranks = np.empty(count, dtype=np.int32)
    ranks[np.frombuffer(order, dtype=np.int32)] = np.arange(count, dtype=np.int32)
    return ranks


class Quota:
    """The quota of one language. Each positive row is asked once, by rank, before any is asked again.

    In memory are some 3 bytes a positive row, and 8 more while negatives are vetted.
    """

    def __init__(self, language: str, positives: int, negatives: int, wanted: int, limit: int, attempts: int) -> None:
        """Take the counts of rows, how many negatives to make, and the most to make and to ask of a row.

        A row may be asked for more than it can give, since a filter may reject some.
        """
        self.language, self.wanted, self.made = language, wanted, 0
        self.rejected: Counter[str] = Counter()
        self.strategies: Counter[str] = Counter()
        self._positives, self._negatives, self._limit, self._attempts = positives, negatives, limit, attempts
        self.asked = np.zeros(positives, dtype=np.min_scalar_type(attempts))
        self._given = np.zeros(positives, dtype=np.min_scalar_type(limit))
        self._exhausted = np.zeros(positives, dtype=bool)

    @cached_property
    def logits(self) -> NDArray[np.float64]:
        """The logit of each positive row [P] by the vetting model, by rank; NaN where it is not known yet."""
        return np.full(len(self.asked), np.nan)

    def plan(self) -> NDArray[np.unsignedinteger] | None:
        """Return how many negatives to ask of each row [P] next, by rank: as many as are missing, of rows asked least.

        None if the quota is met or no row is left.
        """
        missing = self.wanted - self.made
        left = np.minimum(self._limit - self._given, self._attempts - self.asked)
        live = ~self._exhausted & (left > 0)
        rows = int(np.count_nonzero(live))
        if missing <= 0 or not rows:
            return None
        share = min(max(missing // rows, 1), self._limit)
        plan = np.zeros(len(live), dtype=self.asked.dtype)
        for asked in np.unique(self.asked[live]).tolist():
            for start in range(0, len(plan), _BLOCK):
                block = slice(start, start + _BLOCK)
                ranks = start + np.flatnonzero(live[block] & (self.asked[block] == asked))
                counts = np.minimum(share, left[ranks])
                before = np.cumsum(counts, dtype=np.int64) - counts
                plan[ranks] = np.clip(missing - before, 0, counts)
                missing -= int(plan[ranks].sum(dtype=np.int64))
                if missing <= 0:
                    return plan
        return plan

    def count(self, rank: int, asked: int, found: int) -> None:
        """Count the requested and the found negatives of a row; a row with too few is not asked again."""
        self.asked[rank] += asked
        if found < asked:
            self._exhausted[rank] = True
            self.rejected["nothing_left"] += 1

    def ask_again(self, ranks: Ranks) -> None:
        """Take back one request of the row at each of some ranks: what it gave may be no negative."""
        np.subtract.at(self.asked, ranks, 1)
        self.rejected["near_query"] += len(ranks)

    def accept(self, ranks: Ranks, strategies: Sequence[str]) -> None:
        """Count negatives that were made, each with the rank of its row and its strategy."""
        np.add.at(self._given, ranks, 1)
        self.strategies.update(strategies)
        self.made += len(ranks)

    def report(self) -> LanguageReport:
        """Return the counts."""
        return LanguageReport(
            language=self.language,
            positives=self._positives,
            negatives_before=self._negatives,
            wanted=self.wanted,
            made=self.made,
            sources=self._positives,
            tried=int(np.count_nonzero(self.asked)),
            strategies=dict(sorted(self.strategies.items())),
            rejected={name: count for name, count in sorted(self.rejected.items()) if count},
        )
