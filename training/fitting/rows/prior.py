"""The category prior of a run: the table of all training rows, and out-of-fold features of these rows themselves.

A row's own label must not be in its feature, or the model would learn to copy the table (target leakage). So the
features of a fold come from the other folds' rows, and linked rows (training.data.groups) share a fold.

The strength of the smoothing is the one of STRENGTHS with the least log loss out of fold (empirical Bayes by
cross-validation). Where the rates of categories differ by chance alone, the largest wins and the prior says nothing.
"""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.model.card import PriorSummary
from relevance.model.prior import CategoryPrior
from relevance.tasks import LabeledPair
from relevance.text.formatting import PairFormat
from training.data.extras import is_negative
from training.data.groups import iter_groups
from training.data.labels.weights import share_column, weight_column
from training.data.stored.batches import mentions, to_rows
from training.data.stored.joins import numbered
from training.data.stored.rows import batches_of

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

FOLDS = 5
STRENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 1e6)
_AT_ONCE = 65_536  # values as Python objects


@dataclass(frozen=True, eq=False)
class FittedPrior:
    """The table of all training rows, and the out-of-fold features [N, 3] of these rows."""

    table: CategoryPrior
    features: Floats

    @property
    def summary(self) -> PriorSummary:
        """What the card says of the table."""
        table = self.table
        return PriorSummary(strength=table.strength, folds=table.folds, paths=table.paths, rows=table.rows)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows [N] as a prior reads them: the number of each one's path, its share of label 1, its weight and its fold."""

    levels: list[list[str]]  # of each path
    paths: NDArray[np.int32]
    shares: Floats
    weights: Floats
    folds: NDArray[np.int8]

    def table(self, left_out: int) -> CategoryPrior:
        """Return the table of all rows outside of a fold."""
        counted = np.flatnonzero((self.weights != 0) & (self.folds != left_out))
        paths, shares, weights = (map(column.item, counted) for column in (self.paths, self.shares, self.weights))
        return CategoryPrior.of(map(self.levels.__getitem__, paths), shares, weights, FOLDS)

    def features(self, tables: Sequence[CategoryPrior]) -> Floats:
        """Return the features [N, 3] of rows, those of a fold from the table at its number."""
        of_paths = np.stack([np.array([table.features(levels) for levels in self.levels]) for table in tables])
        found: Floats = of_paths[self.folds, self.paths]
        return found

    def log_loss(self, features: Floats) -> float:
        """Return the log loss of the leaf's rate on the shares, by the weights, of which not all are 0."""
        weight = self.weights / max(sum(memoryview(self.weights)), 1e-9)
        rate = np.clip(weight @ self.shares, 1e-6, 1 - 1e-6)
        logits = features[:, 0] + np.log(rate / (1 - rate))
        return float(weight @ (np.logaddexp(0, logits) - self.shares * logits))


def fit_prior(rows: Sequence[LabeledPair], form: PairFormat, seed: int) -> FittedPrior:
    """Return the prior of training rows. Sampled negatives get features, but do not count in any table.

    Their number says how they were sampled, and not what users want. In memory are some 100 bytes a row.
    """
    paths, different = numbered(path for batch in batches_of(rows) for path in batch.column("candidate").to_pylist())
    weights = np.where(_are_negatives(rows), 0.0, weight_column(rows))
    levels = [form.levels(path) for path in different.to_pylist()]
    read = _Rows(levels, paths, share_column(rows), weights, _folds(rows, seed))
    whole, *others = (read.table(fold) for fold in (-1, *range(FOLDS)))
    losses = {strength: read.log_loss(read.features(_with(others, strength))) for strength in STRENGTHS}
    strength = min(STRENGTHS, key=losses.__getitem__)
    (table,) = _with([whole], strength)
    log.info("category prior: %d paths from %.0f rows, strength %g", table.paths, table.rows, strength)
    return FittedPrior(table, read.features(_with(others, strength)))


def _with(tables: Sequence[CategoryPrior], strength: float) -> list[CategoryPrior]:
    return [CategoryPrior(strength=strength, folds=FOLDS, counts=table.counts) for table in tables]


def _are_negatives(rows: Sequence[LabeledPair]) -> NDArray[np.bool_]:
    """Return True [N] for sampled negatives."""
    found, at = np.zeros(len(rows), dtype=bool), 0
    for batch in batches_of(rows):
        places = np.flatnonzero(mentions(batch, "source"))
        found[at + places] = [is_negative(row) for row in to_rows(batch.take(pa.array(places)))]
        at += batch.num_rows
    return found


def _folds(rows: Sequence[LabeledPair], seed: int) -> NDArray[np.int8]:
    """Return the fold [N] of each row: its group's place in an order drawn by the seed, so that folds are equal."""
    groups, keys = numbered(iter_groups(rows))
    parts = (keys.slice(start, _AT_ONCE).to_pylist() for start in range(0, len(keys), _AT_ONCE))
    drawn = np.fromiter((zlib.crc32(f"{seed} {key}".encode()) for part in parts for key in part), np.int64, len(keys))
    order = pc.sort_indices(pa.table({"drawn": drawn, "key": keys}), [("drawn", "ascending"), ("key", "ascending")])
    fold_of = np.empty(len(keys), dtype=np.int8)
    fold_of[order.to_numpy()] = np.arange(len(keys)) % FOLDS
    return fold_of[groups]
