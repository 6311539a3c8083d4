"""How far the scores and languages of late are from those of the dev set that the bundle was tuned on.

The measure is the population stability index (Siddiqi, Credit Risk Scorecards, 2006), the sum of (p - q) ln(p / q) over
the shares p and q of the bins: 0 where both are the same. By custom, below 0.1 nothing has changed and above 0.25 much
has. Knows no metrics and no HTTP.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.card import ModelCard
from relevance.metrics import HISTOGRAM_BINS
from relevance.tasks import UNKNOWN_LANGUAGE
from service.observability.score_histogram import OTHER_LANGUAGE, Counts

ALL = "all"
SLICES = 6  # of a window; the oldest goes as a whole
MOST_BINS = 10
ROWS_A_BIN = 20  # of the reference: 10 bins of 20 rows make an index of 0.05 by chance alone
HALF = 0.5  # what an empty bin counts as, since the logarithm of nothing is infinite

Seen = Mapping[str, Counts]  # counts by language, in the bins of its reference


def psi(expected: ArrayLike, found: ArrayLike) -> float:
    """Return the population stability index of counts [B] over the same bins, each with a sum above 0.

    A bin that is empty on one side counts as half a row there; one that is empty on both is left out.
    """
    counts = np.array([expected, found], dtype=np.float64)
    p, q = (np.maximum(counts, HALF) / counts.sum(axis=1, keepdims=True))[:, counts.any(axis=0)]
    return float(((p - q) * np.log(p / q)).sum())


@dataclass(frozen=True)
class Bins:
    """A histogram whose neighbouring parts are merged: where the bins start, and their rows [B]."""

    starts: NDArray[np.intp]
    rows: Counts

    @classmethod
    def of(cls, histogram: Sequence[int]) -> Self | None:
        """Merge so that a bin holds a tenth of the rows and ROWS_A_BIN at least; None for no histogram."""
        rows = np.array(histogram, dtype=np.int64)
        if len(rows) != HISTOGRAM_BINS or rows.sum() < ROWS_A_BIN:
            return None
        least, held, starts = max(ROWS_A_BIN, rows.sum() / MOST_BINS), 0, [0]
        for place, count in enumerate(rows.tolist()):
            if held >= least and rows[place:].sum() >= least:
                starts.append(place)
                held = 0
            held += count
        if len(starts) == 1:  # nearly all rows are in one part: it is a bin of its own
            most = int(rows.argmax())
            starts = sorted({0, most, min(most + 1, HISTOGRAM_BINS - 1)})
        return cls(np.array(starts), np.add.reduceat(rows, starts))

    def merge(self, histogram: Counts) -> Counts:
        """Return a histogram's rows [B] in these bins."""
        merged: Counts = np.add.reduceat(histogram, self.starts)
        return merged


@dataclass(frozen=True)
class Reference:
    """What is expected: scores of all rows and of single languages, and the rows of each language.

    Nothing is said of fewer than `least_scores`.
    """

    scores: Mapping[str, Bins]
    mix: Mapping[str, int]
    least_scores: int

    @classmethod
    def of(cls, card: ModelCard, least_scores: int) -> Self:
        """Return what a card holds; cards of older versions hold less."""
        found = {name: Bins.of(rows) for name, rows in ({ALL: card.score_histogram} | card.language_histograms).items()}
        mix = {language: rows for language, rows in card.dev_rows.items() if rows and language != UNKNOWN_LANGUAGE}
        return cls({name: bins for name, bins in found.items() if bins is not None}, mix, least_scores)

    def score_psi(self, seen: Seen) -> dict[str, float]:
        """Return the index of the scores of each language that is known, and of all; NaN for too few scores."""
        return {name: self._psi(bins.rows, seen.get(name)) for name, bins in self.scores.items()}

    def mix_psi(self, seen: Seen) -> float | None:
        """Return the index of the languages, None where those of dev are not known; NaN for too few scores.

        Pairs that name no language are left out; languages that dev does not have count as one.
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
        if found is None or found.sum() < self.least_scores:
            return math.nan
        return psi(expected, found)


class Drift:
    """The scores of one model of late. Another version has its own, and so begins with an empty window."""

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

    def add(self, counts: Counts) -> None:
        """Take in scores that were just given: counts [languages, twentieths]."""
        self._move_on()
        self._slices[self._now % SLICES] += counts

    def seen(self) -> dict[str, Counts]:
        """Return the counts of the window: of each language and of all, in the bins of the reference (else as one)."""
        self._move_on()
        counts = self._slices.sum(axis=0)
        rows = dict(zip(self._languages, counts, strict=True)) | {ALL: counts.sum(axis=0)}
        bins = self.reference.scores
        return {
            name: bins[name].merge(each) if name in bins else each.sum(keepdims=True) for name, each in rows.items()
        }

    def _slice(self) -> int:
        return int(self._clock() / self._slice_seconds)

    def _move_on(self) -> None:
        """Empty the slices whose time has passed."""
        now = self._slice()
        for passed in range(max(self._now + 1, now - SLICES + 1), now + 1):
            self._slices[passed % SLICES] = 0
        self._now = now
