"""Measures how well scores rank the candidates of each query. Knows no models.

- nDCG@10 (Järvelin and Kekäläinen 2002) with linear gains and the discount log2(1 + rank) of every rank, as
  scikit-learn has it; the paper does not discount ranks below the base of its logarithm.
- MRR@10: the mean of 1 / rank of the first relevant candidate, 0 where none is among the first ten.
- Precision at the threshold: the share of relevant ones among a query's candidates of label 1 by the model.
- Pairwise accuracy: the share of a query's pairs (relevant, irrelevant) that are in the right order: its AUC.

All are means over the queries that have candidates of both labels: where all labels are equal, every order is right.
Candidates with the same score count by the mean over all their orders (McSherry and Najork 2008), for pairs one half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from relevance.evaluation.intervals import Floats, Interval, cluster_weights, interval
from relevance.storage.strict import StrictModel

Gains = Literal["label", "label_share", "grade"]
DEPTH = 10  # ranks that nDCG and MRR look at

Places = NDArray[np.intp]


class Ranking(StrictModel):
    """How well the queries of some rows are ranked: means over `queries`, those with candidates of both labels.

    `one_class` queries have several candidates, all of one label, and `single` queries one candidate: neither counts.
    All values are null where no query has both labels. `precision` leaves out queries without a label 1 by the model.
    """

    queries: int
    one_class: int
    single: int
    ndcg_at_10: Interval
    mrr_at_10: Interval
    precision: Interval
    pairwise_accuracy: Interval


class RankingReport(StrictModel):
    """The ranking metrics of all rows, and of each language that has a query with several candidates."""

    gains: Gains = Field(description="what nDCG gains by")
    all: Ranking
    languages: dict[str, Ranking]


@dataclass(frozen=True, slots=True)
class Lists:
    """Which rows are ranked together: the query key [N] of each row, and its gain [N], 0 or more, if not its label."""

    queries: Sequence[str]
    gains: Sequence[float] | None = None
    gains_of: Gains = "label"

    def part(self, mask: NDArray[np.bool_]) -> "Lists":
        """Return those of the rows that a mask [N] chooses."""
        gains = None if self.gains is None else list(compress(self.gains, mask))
        return Lists(list(compress(self.queries, mask)), gains, self.gains_of)


class Rankings:
    """The candidates of each query, grouped once for any number of scorers. Metrics come in one array [Q].

    Q counts the queries with candidates of both labels; `first` [Q] is the first row of each.
    """

    def __init__(self, lists: Lists, labels: ArrayLike) -> None:
        """Group rows [N] with labels [N] by the keys of their queries."""
        y = np.asarray(labels, dtype=np.float64)
        keys = np.unique(np.asarray(lists.queries, dtype=object).astype(str), return_inverse=True)[1]
        sizes, positives = np.bincount(keys), np.bincount(keys, weights=y)
        judged = (positives > 0) & (positives < sizes)
        self.single, self.one_class = int((sizes == 1).sum()), int(((sizes > 1) & ~judged).sum())
        self.places: Places = np.flatnonzero(judged[keys])
        first, self.query = np.unique(keys[self.places], return_index=True, return_inverse=True)[1:]
        self.first: Places = self.places[first]
        self.labels = y[self.places]
        self.gains = self.labels if lists.gains is None else np.asarray(lists.gains, dtype=np.float64)[self.places]
        self._positives = _sums(self.query, self.labels, len(self))
        self._negatives = _sums(self.query, 1 - self.labels, len(self))

    @property
    def has_lists(self) -> bool:
        """Whether any query has several candidates."""
        return len(self) + self.one_class > 0

    def __len__(self) -> int:
        return len(self.first)

    def ndcg(self, scores: ArrayLike) -> Floats:
        """Return nDCG@10 [Q] for scores [N]; NaN where all gains are 0."""
        ideal, found = self._dcg(self.gains), self._dcg(self._of(scores))
        return _ratio(found, ideal)

    def mrr(self, scores: ArrayLike) -> Floats:
        """Return 1 / rank of the first relevant candidate [Q], 0 below rank 10, for scores [N]."""
        order = _Order.of(self.query, self._of(scores))
        relevant = np.add.reduceat(self.labels[order.rows], order.starts) if len(self) else order.sizes
        hits = np.flatnonzero(relevant)
        tie = hits[np.unique(order.queries[hits], return_index=True)[1]]  # each query's first with a relevant candidate
        start, size, count = order.ranks[order.starts][tie], order.sizes[tie], relevant[tie]
        found, left = np.zeros(len(self)), np.ones(len(self))
        for place in range(DEPTH):  # `here`: the probability that it has this place in its tie
            here = left * np.minimum(count / np.maximum(size - place, 1), 1)
            found += np.where(start + place < DEPTH, here / (start + place + 1), 0)
            left -= here
        return found

    def precision(self, positive: ArrayLike) -> Floats:
        """Return the share of relevant ones [Q] among the rows that `positive` [N] marks; NaN where it marks none."""
        chosen = np.asarray(positive, dtype=np.float64)[self.places]
        marked = _sums(self.query, chosen, len(self))
        right = _sums(self.query, chosen * self.labels, len(self))
        return _ratio(right, marked)

    def pairwise_accuracy(self, scores: ArrayLike) -> Floats:
        """Return the share of pairs (relevant, irrelevant) in the right order [Q] for scores [N]."""
        order = _Order.of(self.query, self._of(scores))
        up = _sums(order.ties, self.labels[order.rows], len(order.sizes))
        down = order.sizes - up
        through = np.cumsum(down) - np.append(0, np.cumsum(self._negatives))[order.queries]  # within the query
        won = up * (self._negatives[order.queries] - through + down / 2)
        return _sums(order.queries, won, len(self)) / (self._positives * self._negatives)

    def _of(self, scores: ArrayLike) -> Floats:
        return np.asarray(scores, dtype=np.float64)[self.places]

    def _dcg(self, scores: Floats) -> Floats:
        order = _Order.of(self.query, scores)
        gains = _sums(order.ties, self.gains[order.rows], len(order.sizes)) / order.sizes
        discounts = np.where(order.ranks < DEPTH, 1 / np.log2(order.ranks + 2), 0)
        return _sums(self.query[order.rows], gains[order.ties] * discounts, len(self))


@dataclass(frozen=True, slots=True)
class _Order:
    """Rows [M] by query and falling score, and their T ties: rows of one query and one score."""

    rows: Places  # [M]
    ranks: Places  # [M] from 0
    ties: Places  # [M] the tie of each row
    starts: Places  # [T] the place of its first row
    sizes: Floats  # [T]
    queries: Places  # [T]

    @classmethod
    def of(cls, query: Places, scores: Floats) -> "_Order":
        rows = np.lexsort((-scores, query))
        queries = query[rows]
        new_query = np.diff(queries, prepend=-1) != 0
        new_tie = new_query | (np.diff(scores[rows], prepend=np.nan) != 0)
        starts = np.flatnonzero(new_tie)
        ranks = np.arange(len(rows)) - np.flatnonzero(new_query)[queries]
        sizes = np.diff(np.append(starts, len(rows))).astype(float)
        return cls(rows, ranks, np.cumsum(new_tie) - 1, starts, sizes, queries[starts])


def _sums(groups: Places, values: Floats, count: int) -> Floats:
    """Return the sum of values [M] in each of `count` groups (numbers [M] from 0)."""
    return np.bincount(groups, weights=values, minlength=count).astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole; NaN where the whole is 0."""
    found: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return found


def measure_ranking(
    rankings: Rankings, scores: ArrayLike, positive: ArrayLike, clusters: ArrayLike, resamples: int, seed: int
) -> Ranking:
    """Return the ranking metrics of rows [N]; intervals resample their clusters [N], groups of whole queries."""
    found = (rankings.ndcg(scores), rankings.mrr(scores), rankings.precision(positive))
    values = np.stack([*found, rankings.pairwise_accuracy(scores)])
    draws = [np.empty((len(values), 0))]
    if len(rankings):
        groups = np.unique(np.asarray(clusters, dtype=object)[rankings.first].astype(str), return_inverse=True)[1]
        draws += [weighted_means(values, weights) for weights in cluster_weights(groups, resamples, seed)]
    whole = weighted_means(values, np.ones((1, len(rankings))))[:, 0]
    ndcg, mrr, precision, pairwise = map(interval, whole.tolist(), np.concatenate(draws, axis=1))
    return Ranking(
        queries=len(rankings),
        one_class=rankings.one_class,
        single=rankings.single,
        ndcg_at_10=ndcg,
        mrr_at_10=mrr,
        precision=precision,
        pairwise_accuracy=pairwise,
    )


def weighted_means(values: Floats, weights: Floats) -> Floats:
    """Return the means [K, R] of values [K, Q] under each row of weights [R, Q]. NaN values are left out."""
    return _ratio(np.nan_to_num(values) @ weights.T, (~np.isnan(values)).astype(float) @ weights.T)
