"""The orders that the examples compare, as scores of rows for `relevance.evaluation.ranking`. Knows no model.

An order is given by scores: higher is better, equal ones are ties. Candidates that were not scored follow the scored
ones in BM25's order. Relevant items that BM25 did not find come behind rank 10.
"""

from collections.abc import Sequence

import numpy as np
from lists import Floats, QueryList

from relevance.evaluation.intervals import Interval, cluster_weights, interval
from relevance.evaluation.ranking import DEPTH, Lists, Rankings, weighted_means

RESAMPLES = 1000
NOT_FOUND = -2.0


def blended(each: QueryList, scores: Floats, weight: float, depth: int) -> Floats:
    """Return an order [N]: of the first `depth` candidates `weight` times the score, the rest of the weight BM25's.

    Weight 0 is BM25's own order, 1 that of the model. BM25 scores are divided by the best of their query.
    """
    bm25 = each.bm25 / max(each.bm25.max(initial=0.0), 1e-9)
    order = bm25 - 1.0  # below all that is scored
    order[:depth] = weight * scores[:depth] + (1 - weight) * bm25[:depth]
    return order


class Judged:
    """Query lists as rows, measured in any number of orders. Intervals resample queries."""

    def __init__(self, lists: Sequence[QueryList]) -> None:
        self.lists = lists
        behind = [_behind(each) for each in lists]
        sizes = [len(each) + len(rows) for each, rows in zip(lists, behind, strict=True)]
        keys = np.repeat(np.arange(len(lists)), sizes).astype(str).tolist()
        parts = list(zip(lists, behind, strict=True))
        gains = np.concatenate([part for each, rows in parts for part in (each.gains, rows)])
        labels = np.concatenate([part for each, rows in parts for part in (each.labels, rows > 0)])
        self._rankings = Rankings(Lists(keys, gains.tolist(), "grade"), labels)
        self._places = [NOT_FOUND - (rows > 0) for rows in behind]

    def __len__(self) -> int:
        return len(self._rankings)

    def ndcg(self, orders: Sequence[Floats]) -> Floats:
        """Return nDCG@10 [Q] of the lists with candidates of both labels; `orders` has one [N] a list."""
        return self._rankings.ndcg(self._rows(orders))

    def mrr(self, orders: Sequence[Floats]) -> Floats:
        """Return MRR@10 [Q]."""
        return self._rankings.mrr(self._rows(orders))

    def _rows(self, orders: Sequence[Floats]) -> Floats:
        return np.concatenate([part for pair in zip(orders, self._places, strict=True) for part in pair])


def _behind(each: QueryList) -> Floats:
    """Return the gains of rows behind a list: none of them reaches the ranks that count.

    They are DEPTH that stand for nothing, then the relevant items that BM25 did not find, which the ideal order has.
    """
    return np.concatenate([np.zeros(DEPTH), each.missed]) if len(each.missed) else np.empty(0)


def mean(values: Floats, seed: int = 0) -> Interval:
    """Return the mean of values [Q] with its bootstrap interval."""
    if not len(values):
        return Interval(value=None, low=None, high=None)
    rows = values[None]
    draws = [weighted_means(rows, each)[0] for each in cluster_weights(np.arange(len(values)), RESAMPLES, seed)]
    return interval(float(weighted_means(rows, np.ones((1, len(values))))[0, 0]), np.concatenate(draws))


def best_weight(judged: Judged, scores: Sequence[Floats], weights: Sequence[float], depth: int) -> float:
    """Return the weight of the best mean nDCG@10; of equal ones the smallest."""
    found = {}
    for weight in weights:
        orders = [blended(each, score, weight, depth) for each, score in zip(judged.lists, scores, strict=True)]
        found[weight] = float(np.mean(judged.ndcg(orders)))
    return max(weights, key=lambda weight: (found[weight], -weight))
