"""Percentile bootstrap intervals that resample whole clusters of rows (a query, or linked queries). Knows no metric."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from relevance.storage.strict import StrictModel

Floats = NDArray[np.float64]


class Interval(StrictModel):
    """A value and its 95 % interval; all null if it is undefined (AUC of one class, F1 without a positive row)."""

    value: float | None
    low: float | None
    high: float | None

    def __format__(self, form: str) -> str:
        """Return the value and its interval, each in the format of a number: `0.812 [0.790, 0.831]`, or `-`."""
        if self.value is None:
            return "-"
        ends = "" if self.low is None or self.high is None else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.value:{form}}{ends}"


def cluster_weights(clusters: NDArray[np.intp], resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each row is drawn when whole clusters (numbers [N] from 0) are drawn with replacement.

    Weights [R, N] come in chunks of at most 50 resamples, to bound memory. Equal clusters and seeds give equal weights,
    so that two scorers can be compared draw by draw.
    """
    rng = np.random.default_rng(seed)
    count = int(clusters.max()) + 1
    for n in [50] * (resamples // 50) + [resamples % 50] * bool(resamples % 50):
        yield rng.multinomial(count, np.full(count, 1 / count), size=n)[:, clusters].astype(float)


def interval(value: float, draws: Floats) -> Interval:
    """Return a value with the 95 % percentile interval of its bootstrap draws [R]; NaN draws are left out."""
    draws = draws[~np.isnan(draws)]
    if np.isnan(value):
        return Interval(value=None, low=None, high=None)
    if not len(draws):  # too few rows to resample both classes, or no resamples
        return Interval(value=float(value), low=None, high=None)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value=float(value), low=float(low), high=float(high))
