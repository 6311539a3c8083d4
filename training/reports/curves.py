"""Curves of one model's scores: calibration, F1 over the threshold, and nDCG over the candidates that it re-ranks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from relevance.evaluation.intervals import Floats, Interval, cluster_weights, interval
from relevance.evaluation.metrics import Scored, f1
from relevance.evaluation.ranking import Rankings, weighted_means
from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair, query_key
from training.text.likeness import bigram_f1

MOST_BINS, BIN_ROWS = 10, 25
THRESHOLDS = np.linspace(0, 1, 101)
BUDGETS = (0, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
FIRST_STAGE = "F1 of character bigrams of query and candidate, ties in random order"
RESAMPLES = 1000


class Bin(StrictModel):
    """Rows of neighbouring scores: their number, mean score, and share of label 1."""

    rows: int
    mean_score: float
    positive_share: float


class CalibrationCurve(StrictModel):
    """How far scores are from the share of label 1: `ece` is the mean distance over the rows, in bins of equal mass."""

    ece: float
    bins: tuple[Bin, ...]


class ThresholdCurve(StrictModel):
    """F1 of all rows at one threshold for all languages."""

    thresholds: tuple[float, ...]
    f1: tuple[float, ...]


class BudgetPoint(StrictModel):
    """nDCG@10 where the model re-ranks the first `candidates` of each query: `pairs` a query in the mean.

    `gain` is the difference to the cheap order alone, on the same draws.
    """

    candidates: int
    pairs: float
    ndcg_at_10: Interval
    gain: Interval


class BudgetCurve(StrictModel):
    """nDCG@10 by the number of candidates that the model re-ranks; the others stay behind them in the first order."""

    first_stage: str = Field(description="what the order is made by before the model re-ranks")
    queries: int
    points: tuple[BudgetPoint, ...]


def calibration_curve(scored: Scored) -> CalibrationCurve:
    """Return the expected calibration error and its bins: at most 10 of equal mass, 25 rows or more in each.

    Bins of equal width, as in Naeini et al. 2015, hold almost no rows where scores are rare (Nixon et al. 2019).
    """
    scores, labels = np.asarray(scored.scores), np.asarray(scored.labels, dtype=np.float64)
    parts = np.array_split(np.argsort(scores, kind="stable"), max(1, min(MOST_BINS, len(scores) // BIN_ROWS)))
    bins = tuple(
        Bin(rows=len(part), mean_score=scores[part].mean(), positive_share=labels[part].mean()) for part in parts
    )
    return CalibrationCurve(
        ece=sum(each.rows * abs(each.mean_score - each.positive_share) for each in bins) / len(scores), bins=bins
    )


def threshold_curve(scored: Scored) -> ThresholdCurve:
    """Return F1 at every hundredth."""
    scores = np.asarray(scored.scores)
    found = tuple(f1(scored.labels, scores >= threshold) for threshold in THRESHOLDS)
    return ThresholdCurve(thresholds=tuple(THRESHOLDS.round(2).tolist()), f1=found)


def budget_curve(rows: Sequence[LabeledPair], scored: Scored, seed: int = 0) -> BudgetCurve | None:
    """Return nDCG@10 by the number of re-ranked candidates; None where no query has candidates of both labels.

    The first order is a cheap one (FIRST_STAGE), not that of the file, which may be sorted by label.
    """
    rankings = Rankings(scored.lists, scored.labels) if scored.lists else None
    if not rankings:
        return None
    places = _first_places(rows, rankings, seed)
    groups = np.unique(np.asarray(scored.queries, dtype=object)[rankings.first].astype(str), return_inverse=True)[1]
    weights = np.concatenate([*cluster_weights(groups, RESAMPLES, seed)])
    sizes, scores = np.bincount(rankings.query), np.asarray(scored.scores)
    largest = int(sizes.max())
    budgets = (*(each for each in BUDGETS if each < largest), largest)
    # Scores are in [0, 1]: a re-ranked candidate stands before all that are not, which keep their places.
    found = np.stack([rankings.ndcg(np.where(places < budget, 2 + scores, -places)) for budget in budgets])
    values, draws = weighted_means(found, np.ones((1, len(rankings))))[:, 0].tolist(), weighted_means(found, weights)
    points = tuple(
        BudgetPoint(
            candidates=budget,
            pairs=float(np.minimum(sizes, budget).mean()),
            ndcg_at_10=interval(value, drawn),
            gain=interval(value - values[0], drawn - draws[0]),
        )
        for budget, value, drawn in zip(budgets, values, draws, strict=True)
    )
    return BudgetCurve(first_stage=FIRST_STAGE, queries=len(rankings), points=points)


def _first_places(rows: Sequence[LabeledPair], rankings: Rankings, seed: int) -> Floats:
    """Return the place from 0 of each row [N] among the candidates of its query, by the cheap order."""
    likeness = [_likeness(rows[place]) for place in rankings.places]
    chance = np.random.default_rng(seed).random(len(likeness))
    order: NDArray[np.intp] = np.lexsort((chance, -np.asarray(likeness), rankings.query))
    starts = np.flatnonzero(np.diff(rankings.query[order], prepend=-1))
    places = np.zeros(len(rows))
    places[rankings.places[order]] = np.arange(len(order)) - starts[rankings.query[order]]
    return places


def _likeness(row: LabeledPair) -> float:
    return bigram_f1(query_key(row.pair.query), query_key(row.pair.candidate))
