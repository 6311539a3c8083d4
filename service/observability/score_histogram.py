"""Counts the scores of a model by language, label and twentieth of [0, 1]: many at a time, since one by one costs."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.metrics import HISTOGRAM_BINS
from relevance.tasks import UNKNOWN_LANGUAGE

OTHER_LANGUAGE = "other"
WAITING_PAIRS = 4096  # so many are counted at once, at most

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class ScoreTally:
    """What was scored since `take` was last called. Used from one thread."""

    def __init__(self, languages: Sequence[str]) -> None:
        """Tell `languages` apart; all others count as one."""
        self.languages = tuple(dict.fromkeys((*languages, UNKNOWN_LANGUAGE, OTHER_LANGUAGE)))
        self._rows = {language: row for row, language in enumerate(self.languages)}
        self._shape = len(self.languages), 2, HISTOGRAM_BINS
        self._waiting: list[tuple[Sequence[str], Floats, Flags]] = []
        self._pairs = 0
        self._clear()

    def add(self, languages: Sequence[str], scores: Floats, labels: Flags) -> None:
        """Count scores [N] in [0, 1] and labels [N]; the arguments belong to the tally from now on."""
        self._waiting.append((languages, scores, labels))
        self._pairs += len(languages)
        if self._pairs >= WAITING_PAIRS:
            self._count()

    def take(self) -> tuple[Counts, Floats]:
        """Return counts [languages, labels, twentieths] and sums of the scores [languages], and begin anew.

        A score on the border of two twentieths counts in the upper one, as in the bundle's histograms.
        """
        self._count()
        taken = self._counts, self._sums
        self._clear()
        return taken

    def _clear(self) -> None:
        self._counts = np.zeros(self._shape, dtype=np.int64)
        self._sums = np.zeros(self._shape[0])

    def _count(self) -> None:
        if not self._waiting:
            return
        languages, scores, labels = zip(*self._waiting, strict=True)
        self._waiting, self._pairs = [], 0
        of, other = self._rows.get, self._rows[OTHER_LANGUAGE]
        rows = np.array([of(each, other) for each in itertools.chain.from_iterable(languages)], dtype=np.intp)
        every = np.concatenate(scores)
        twentieths = np.minimum((every * HISTOGRAM_BINS).astype(np.intp), HISTOGRAM_BINS - 1)
        cells = np.ravel_multi_index((rows, np.concatenate(labels).astype(np.intp), twentieths), self._shape)
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._shape)
        self._sums += np.bincount(rows, every, len(self._sums))
