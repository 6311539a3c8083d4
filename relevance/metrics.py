"""Measures scores: F1 of the positive class, F1 of an always-yes scorer, AUC, each with an interval. Knows no models.

F1 is the task's own metric. With two thirds of the rows positive, a scorer that always says yes reaches 0.8, so F1 is
always reported with always-yes F1, the gain over it, and AUC, which needs no threshold.
Intervals are percentile bootstrap intervals that resample whole queries, since rows of one query are not independent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.strict import StrictModel

Floats = NDArray[np.float64]

HISTOGRAM_BINS = 20
HISTOGRAM_ROWS = 50  # a language with fewer rows has no histogram: it would be noise


class Interval(StrictModel):
    """A value and its 95 % interval; all null if the value is undefined (AUC of one class)."""

    value: float | None
    low: float | None
    high: float | None

    def __format__(self, form: str) -> str:
        """Return the value and its interval, each in the format of a number: `0.812 [0.790, 0.831]`, or `-`."""
        if self.value is None:
            return "-"
        ends = "" if self.low is None or self.high is None else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.value:{form}}{ends}"


class Slice(StrictModel):
    """The metrics of some rows."""

    rows: int
    queries: int
    positives: int
    f1: Interval
    always_yes_f1: Interval
    f1_gain: Interval
    auc: Interval


class Report(StrictModel):
    """Metrics of one scored file: of all rows, of languages seen and unseen in training, and of each language."""

    threshold: float
    resamples: int
    seed: int
    all: Slice
    seen: Slice | None
    unseen: Slice | None
    languages: dict[str, Slice]


@dataclass(frozen=True)
class Scored:
    """Scored rows: labels [N] in {0, 1}, scores [N] in [0, 1], query keys [N], languages [N].

    `thresholds` [N], if given, holds a threshold for each row, such as those tuned by language.
    """

    labels: Sequence[int]
    scores: Sequence[float]
    queries: Sequence[str]
    languages: Sequence[str]
    thresholds: Sequence[float] | None = None


def f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Return F1 of the positive class for binary arrays [N]; 0 if neither has a positive."""
    y, p = np.asarray(labels, dtype=bool), np.asarray(predictions, dtype=bool)
    denominator = int(y.sum() + p.sum())
    return 2 * int((y & p).sum()) / denominator if denominator else 0.0


def always_yes_f1(labels: ArrayLike) -> float:
    """Return the F1 of a scorer that labels every row 1: 2p / (1 + p) at a positive rate p."""
    return f1(labels, np.ones(len(np.asarray(labels)), dtype=bool))


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Return the area under the ROC curve (ties count half). None: only one class is present."""
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    value = float(weighted_auc(y, np.unique(s, return_inverse=True)[1], np.ones((1, len(y))))[0])
    return None if np.isnan(value) else value


def best_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Return the threshold that maximises F1 (scores >= it are labelled 1), and that F1.

    Thresholds lie midway between neighbouring scores, so that rounding cannot change a label. Of equally good ones the
    one nearest to 0.5 is returned. Raises ValueError for no rows.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not len(y):
        raise ValueError("best_threshold: no rows")
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(s[1:] != s[:-1], True)  # a threshold can only lie between different scores
    true_positives = np.cumsum(y)[last]
    f1s = 2 * true_positives / (np.arange(1, len(y) + 1)[last] + y.sum())
    kept = s[last]
    cuts = np.append((kept[:-1] + kept[1:]) / 2, kept[-1] / 2)
    best = np.flatnonzero(np.isclose(f1s, f1s.max(), rtol=0, atol=1e-12))
    pick = best[np.argmin(np.abs(cuts[best] - 0.5))]
    return float(cuts[pick]), float(f1s[pick])


def evaluate(
    scored: Scored,
    threshold: float,
    seen_languages: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Return the metrics of scored rows. `seen_languages` splits them into seen and unseen; None: no split."""
    languages = np.asarray(scored.languages, dtype=object)

    def part(mask: NDArray[np.bool_]) -> Slice | None:
        return _slice(scored, mask, threshold, resamples, seed) if mask.any() else None

    everything = part(np.ones(len(languages), dtype=bool))
    if everything is None:
        raise ValueError("evaluate: no rows")
    seen = None if seen_languages is None else np.isin(languages.astype(str), list(seen_languages))
    by_language = {code: part(languages == code) for code in sorted(set(scored.languages))}
    return Report(
        threshold=threshold,
        resamples=resamples,
        seed=seed,
        all=everything,
        seen=None if seen is None else part(seen),
        unseen=None if seen is None else part(~seen),
        languages={code: found for code, found in by_language.items() if found is not None},
    )


def histogram(scores: ArrayLike, bins: int = HISTOGRAM_BINS) -> list[int]:
    """Return how many scores lie in each of `bins` equal bins of [0, 1]."""
    return [int(n) for n in np.histogram(np.asarray(scores), bins=bins, range=(0.0, 1.0))[0]]


def language_histograms(scores: ArrayLike, languages: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the histogram of the scores [N] of each language with at least HISTOGRAM_ROWS rows."""
    s, codes = np.asarray(scores, dtype=np.float64), np.asarray(languages, dtype=object)
    parts = {code: s[codes == code] for code in sorted(set(languages))}
    return {code: tuple(histogram(part)) for code, part in parts.items() if len(part) >= HISTOGRAM_ROWS}


def _slice(scored: Scored, mask: NDArray[np.bool_], threshold: float, resamples: int, seed: int) -> Slice:
    y = np.asarray(scored.labels, dtype=np.float64)[mask]
    s = np.asarray(scored.scores, dtype=np.float64)[mask]
    cuts = threshold if scored.thresholds is None else np.asarray(scored.thresholds, dtype=np.float64)[mask]
    predicted = (s >= cuts).astype(np.float64)
    queries, clusters = np.unique(np.asarray(scored.queries, dtype=object)[mask].astype(str), return_inverse=True)
    ranks = np.unique(s, return_inverse=True)[1]

    def measure(weights: Floats) -> Floats:
        f, yes = weighted_f1(y, predicted, weights), weighted_f1(y, np.ones_like(y), weights)
        return np.stack([f, yes, f - yes, weighted_auc(y, ranks, weights)])

    draws = [measure(weights) for weights in cluster_weights(clusters, resamples, seed)]
    values = measure(np.ones((1, len(y))))[:, 0]
    f, yes, gain, area = (
        interval(value, draw) for value, draw in zip(values, np.concatenate(draws, axis=1), strict=True)
    )
    return Slice(
        rows=len(y), queries=len(queries), positives=int(y.sum()), f1=f, always_yes_f1=yes, f1_gain=gain, auc=area
    )


def weighted_f1(y: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return F1 under each row of weights [R, N] -> [R]; labels and predictions [N] in {0, 1}."""
    denominator = weights @ y + weights @ predicted
    return 2 * (weights @ (y * predicted)) / np.where(denominator > 0, denominator, 1)


def weighted_auc(y: Floats, ranks: NDArray[np.intp], weights: Floats) -> Floats:
    """Return AUC under each row of weights [R, N] -> [R]; `ranks` [N]: dense ranks of the scores. NaN: one class."""
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    w, positive = weights[:, order], y[order]
    up = np.add.reduceat(w * positive, starts, axis=1)
    down = np.add.reduceat(w * (1 - positive), starts, axis=1)
    total = up.sum(1) * down.sum(1)
    won = (up * (np.cumsum(down, axis=1) - down / 2)).sum(1)
    area: Floats = np.divide(won, total, out=np.full(len(total), np.nan), where=total > 0)
    return area


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
