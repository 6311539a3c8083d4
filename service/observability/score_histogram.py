"""Counts the scores of one model by language, label and bin of [0, 1]. Knows neither Prometheus nor models.

Counts many scores at once with numpy, since one at a time would cost more than the rest of a request's accounting.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.evaluation.metrics import HISTOGRAM_BINS
from relevance.tasks import UNKNOWN_LANGUAGE

OTHER_LANGUAGE = "other"
MAX_BUFFERED_PAIRS = 4096  # counted at once when the buffer holds this many

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class ScoreHistogram:
    """The scores since the last call of `take`. Used from one thread."""

    def __init__(self, languages: Sequence[str]) -> None:
        """Count each of `languages` on its own. All other languages count as one."""
        self.languages = tuple(dict.fromkeys((*languages, UNKNOWN_LANGUAGE, OTHER_LANGUAGE)))
        self._rows = {language: row for row, language in enumerate(self.languages)}
        self._shape = len(self.languages), 2, HISTOGRAM_BINS
        self._buffer: list[tuple[Sequence[str], Floats, Flags]] = []
        self._pairs = 0
        self._clear()

    def add(self, languages: Sequence[str], scores: Floats, labels: Flags) -> None:
        """Add scores [N] in [0, 1] and labels [N]. The caller must not change the arguments afterwards."""
        self._buffer.append((languages, scores, labels))
        self._pairs += len(languages)
        if self._pairs >= MAX_BUFFERED_PAIRS:
            self._count()

    def take(self) -> tuple[Counts, Floats]:
        """Return counts [languages, labels, bins] and sums of the scores [languages], and reset both to 0.

        A score on the border of two bins counts in the upper one, as in the bundle's histograms.
        """
        self._count()
        taken = self._counts, self._sums
        self._clear()
        return taken

    def _clear(self) -> None:
        self._counts = np.zeros(self._shape, dtype=np.int64)
        self._sums = np.zeros(self._shape[0])

    def _count(self) -> None:
        if not self._buffer:
            return
        languages, scores, labels = zip(*self._buffer, strict=True)
        self._buffer, self._pairs = [], 0
        row_of, other = self._rows.get, self._rows[OTHER_LANGUAGE]
        rows = np.array([row_of(each, other) for each in itertools.chain.from_iterable(languages)], dtype=np.intp)
        all_scores = np.concatenate(scores)
        bins = np.minimum((all_scores * HISTOGRAM_BINS).astype(np.intp), HISTOGRAM_BINS - 1)
        cells = np.ravel_multi_index((rows, np.concatenate(labels).astype(np.intp), bins), self._shape)
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._shape)
        self._sums += np.bincount(rows, all_scores, len(self._sums))
