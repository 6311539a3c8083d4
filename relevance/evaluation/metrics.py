"""Measures scores: F1 of the positive class, F1 of an always-yes scorer, AUC, each with an interval. Knows no models.

F1 is the task's own metric. With two thirds of the rows positive, a scorer that always says yes reaches 0.8, so F1 is
always reported with always-yes F1, the gain over it, and AUC, which needs no threshold.
Intervals are percentile bootstrap intervals that resample whole queries, since rows of one query are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.evaluation.intervals import Floats, Interval, cluster_weights, interval
from relevance.evaluation.ranking import Lists, Ranking, RankingReport, Rankings, measure_ranking
from relevance.storage.strict import StrictModel

HISTOGRAM_BINS = 20
HISTOGRAM_ROWS = 50  # a language with fewer rows has no histogram: it would be noise


class Slice(StrictModel):
    """The metrics of some rows. Without positive rows F1 is undefined, with rows of one class AUC."""

    rows: int
    queries: int
    positives: int
    f1: Interval
    always_yes_f1: Interval
    f1_gain: Interval
    auc: Interval


class Report(StrictModel):
    """Metrics of one scored file: of all rows, of languages seen and unseen in training, and of each language.

    `ranking` is null where no query has several candidates, or where rows came without their queries.
    """

    threshold: float
    resamples: int
    seed: int
    all: Slice
    seen: Slice | None
    unseen: Slice | None
    languages: dict[str, Slice]
    ranking: RankingReport | None = None


@dataclass(frozen=True)
class Scored:
    """Scored rows: labels [N] in {0, 1}, scores [N] in [0, 1], query keys [N], languages [N].

    `queries` are the units that intervals resample: rows of linked queries share a key. `thresholds` [N], if given,
    holds a threshold for each row, such as those tuned by language. `lists`, if given, says which rows are ranked
    together.
    """

    labels: Sequence[int]
    scores: Sequence[float]
    queries: Sequence[str]
    languages: Sequence[str]
    thresholds: Sequence[float] | None = None
    lists: Lists | None = None

    def predicted(self, threshold: float) -> NDArray[np.bool_]:
        """Return the labels [N] by the rows' own thresholds, else by `threshold`."""
        cuts = threshold if self.thresholds is None else np.asarray(self.thresholds, dtype=np.float64)
        found: NDArray[np.bool_] = np.asarray(self.scores, dtype=np.float64) >= cuts
        return found


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
        ranking=None if scored.lists is None else _ranking(scored, scored.lists, threshold, resamples, seed),
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
    predicted = scored.predicted(threshold)[mask].astype(np.float64)
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


def _ranking(scored: Scored, lists: Lists, threshold: float, resamples: int, seed: int) -> RankingReport | None:
    labels, scores, clusters = np.asarray(scored.labels), np.asarray(scored.scores), np.asarray(scored.queries, object)
    positive, languages = scored.predicted(threshold), np.asarray(scored.languages, dtype=object)

    def part(mask: NDArray[np.bool_]) -> Ranking | None:
        rankings = Rankings(lists.part(mask), labels[mask])
        given = (scores[mask], positive[mask], clusters[mask])
        return measure_ranking(rankings, *given, resamples, seed) if rankings.has_lists else None

    everything = part(np.ones(len(labels), dtype=bool))
    if everything is None:
        return None
    by_language = {code: part(languages == code) for code in sorted(set(scored.languages))}
    found = {code: ranking for code, ranking in by_language.items() if ranking is not None}
    return RankingReport(gains=lists.gains_of, all=everything, languages=found)


def weighted_f1(y: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return F1 under each row of weights [R, N] -> [R]; labels and predictions [N] in {0, 1}.

    NaN: no positive label, so that no prediction could have another F1 than 0.
    """
    positives = weights @ y
    twice = 2 * (weights @ (y * predicted))
    found: Floats = np.full(len(positives), np.nan)
    return np.divide(twice, positives + weights @ predicted, out=found, where=positives > 0)


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
