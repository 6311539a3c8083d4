"""How far recent scores and languages are from those of the dev set that the bundle was tuned on.

The measure is the population stability index (Siddiqi, Credit Risk Scorecards, 2006), the sum of (p - q) ln(p / q) over
the shares p and q of the bins. It is 0 for equal shares. By convention, below 0.1 is no change and above 0.25 a
large change. Knows neither Prometheus nor HTTP.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.evaluation.metrics import HISTOGRAM_BINS
from relevance.model.card import ModelCard
from relevance.tasks import UNKNOWN_LANGUAGE
from service.observability.score_histogram import OTHER_LANGUAGE, Counts

ALL = "all"
SLICES = 6  # of a window; the oldest slice is dropped as a whole
MAX_BINS = 10
MIN_BIN_ROWS = 20  # of the reference: 10 bins of 20 rows give an index of 0.05 by chance alone
EMPTY_BIN_ROWS = 0.5  # what an empty bin counts as: log(0) is infinite

Seen = Mapping[str, Counts]  # counts by language, in the bins of its reference


def psi(expected: ArrayLike, found: ArrayLike) -> float:
    """Return the population stability index of counts [B] over the same bins, each with a sum above 0.

    A bin that is empty on one side counts as half a row there. A bin that is empty on both sides is left out.
    """
    counts = np.array([expected, found], dtype=np.float64)
    p, q = (np.maximum(counts, EMPTY_BIN_ROWS) / counts.sum(axis=1, keepdims=True))[:, counts.any(axis=0)]
    return float(((p - q) * np.log(p / q)).sum())


@dataclass(frozen=True)
class Bins:
    """A histogram with neighbouring bins merged: the start of each merged bin, and its rows [B]."""

    starts: NDArray[np.intp]
    rows: Counts

    @classmethod
    def of(cls, histogram: Sequence[int]) -> Self | None:
        """Merge bins until each holds a tenth of the rows and at least MIN_BIN_ROWS. None for an unusable histogram."""
        rows = np.array(histogram, dtype=np.int64)
        if len(rows) != HISTOGRAM_BINS or rows.sum() < MIN_BIN_ROWS:
            return None
        min_rows, held, starts = max(MIN_BIN_ROWS, rows.sum() / MAX_BINS), 0, [0]
        for place, count in enumerate(rows.tolist()):
            if held >= min_rows and rows[place:].sum() >= min_rows:
                starts.append(place)
                held = 0
            held += count
        if len(starts) == 1:  # nearly all rows are in one bin: keep it apart
            most = int(rows.argmax())
            starts = sorted({0, most, min(most + 1, HISTOGRAM_BINS - 1)})
        return cls(np.array(starts), np.add.reduceat(rows, starts))

    def merge(self, histogram: Counts) -> Counts:
        """Return a histogram's rows [B] in these bins."""
        merged: Counts = np.add.reduceat(histogram, self.starts)
        return merged


@dataclass(frozen=True)
class Reference:
    """The dev set that live traffic is compared with: score bins of all rows and of each language, rows by language.

    An index over fewer than `min_scores` live scores is NaN.
    """

    scores: Mapping[str, Bins]
    mix: Mapping[str, int]
    min_scores: int

    @classmethod
    def of(cls, card: ModelCard, min_scores: int) -> Self:
        """Read the reference off a card. Cards of older versions may lack parts of it."""
        found = {name: Bins.of(rows) for name, rows in ({ALL: card.score_histogram} | card.language_histograms).items()}
        mix = {language: rows for language, rows in card.dev_rows.items() if rows and language != UNKNOWN_LANGUAGE}
        return cls({name: bins for name, bins in found.items() if bins is not None}, mix, min_scores)

    def score_psi(self, seen: Seen) -> dict[str, float]:
        """Return the index of the scores of each language in the reference, and of all scores. NaN: too few scores."""
        return {name: self._psi(bins.rows, seen.get(name)) for name, bins in self.scores.items()}

    def mix_psi(self, seen: Seen) -> float | None:
        """Return the index of the language mix. None: the reference has no languages. NaN: too few scores.

        Pairs without a language are left out. Languages that are not in the reference count as one.
        """
        if not self.mix:
            return None
        languages = [*self.mix, OTHER_LANGUAGE]
        found = dict.fromkeys(languages, 0)
        for language, counts in seen.items():
            if language not in (ALL, UNKNOWN_LANGUAGE):
                found[language if language in self.mix else OTHER_LANGUAGE] += int(counts.sum())
        return self._psi(np.array([*self.mix.values(), 0]), np.array(list(found.values())))

    def _psi(self, expected: Counts, found: Counts | None) -> float:
        if found is None or found.sum() < self.min_scores:
            return math.nan
        return psi(expected, found)


class Drift:
    """The recent scores of one loaded model, in a sliding window. Each model version has its own, empty at first.

    Threads may share it: scores are added on the event loop, and scrapes read on another thread.
    """

    def __init__(
        self,
        reference: Reference,
        languages: Sequence[str],
        window_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reference, self._languages, self._clock = reference, languages, clock
        self._slice_seconds = window_seconds / SLICES
        self._slices = np.zeros((SLICES, len(languages), HISTOGRAM_BINS), dtype=np.int64)
        self._now = self._slice()
        self._lock = threading.Lock()  # of the slices

    def add(self, counts: Counts) -> None:
        """Add new scores as counts [languages, bins]."""
        with self._lock:
            self._drop_old_slices()
            self._slices[self._now % SLICES] += counts

    def seen(self) -> dict[str, Counts]:
        """Return the counts of the window by language and for all, in the bins of the reference (one bin without)."""
        with self._lock:
            self._drop_old_slices()
            counts = self._slices.sum(axis=0)
        rows = dict(zip(self._languages, counts, strict=True)) | {ALL: counts.sum(axis=0)}
        bins = self.reference.scores
        return {
            name: bins[name].merge(each) if name in bins else each.sum(keepdims=True) for name, each in rows.items()
        }

    def _slice(self) -> int:
        return int(self._clock() / self._slice_seconds)

    def _drop_old_slices(self) -> None:
        """Empty the slices that have left the window."""
        now = self._slice()
        for passed in range(max(self._now + 1, now - SLICES + 1), now + 1):
            self._slices[passed % SLICES] = 0
        self._now = now
