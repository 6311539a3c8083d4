"""The category prior of a run: the table of all training rows, and out-of-fold features of these rows themselves.

A row's own label must not be in its feature, or the model would learn to copy the table (target leakage). So the
features of a fold come from the other folds' rows, and linked rows (training.data.groups) share a fold.
"""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relevance.card import PriorSummary
from relevance.formatting import PairFormat
from relevance.prior import NO_EVIDENCE, CategoryPrior, PriorFeatures
from relevance.tasks import LabeledPair
from training.data.extras import is_negative
from training.data.groups import linked_groups
from training.data.weights import label_shares, label_weights

log = logging.getLogger(__name__)

FOLDS = 5


@dataclass(frozen=True)
class FittedPrior:
    """The table of all training rows, and the out-of-fold features [N] of these rows."""

    table: CategoryPrior
    features: list[PriorFeatures]

    @property
    def summary(self) -> PriorSummary:
        """What the card says of the table."""
        table = self.table
        return PriorSummary(strength=table.strength, folds=table.folds, paths=table.paths, rows=table.rows)


def fit_prior(rows: Sequence[LabeledPair], form: PairFormat, seed: int) -> FittedPrior:
    """Return the prior of training rows. Sampled negatives get features, but do not count in any table.

    Their number says how they were sampled, and not what users want.
    """
    of_path = {path: form.levels(path) for path in dict.fromkeys(row.pair.candidate for row in rows)}
    paths = [of_path[row.pair.candidate] for row in rows]
    counted = [0.0 if is_negative(row) else weight for row, weight in zip(rows, label_weights(rows), strict=True)]
    shares, folds = label_shares(rows), _folds(rows, seed)
    features = [NO_EVIDENCE] * len(rows)
    for fold in range(FOLDS):
        others = [i for i in np.flatnonzero(folds != fold) if counted[i]]
        table = _table(others, paths, shares, counted)
        for i in np.flatnonzero(folds == fold):
            features[i] = table.features(paths[i])
    table = _table([i for i, weight in enumerate(counted) if weight], paths, shares, counted)
    log.info("category prior: %d paths from %.0f rows", table.paths, table.rows)
    return FittedPrior(table, features)


def _table(places: Sequence[int], paths: Sequence[Sequence[str]], *columns: Sequence[float]) -> CategoryPrior:
    shares, weights = ([column[i] for i in places] for column in columns)
    return CategoryPrior.of([paths[i] for i in places], shares, weights, FOLDS)


def _folds(rows: Sequence[LabeledPair], seed: int) -> NDArray[np.int64]:
    """Return the fold [N] of each row: its group's place in an order drawn by the seed, so that folds are equal."""
    groups = linked_groups(rows)
    drawn = sorted(set(groups), key=lambda group: (zlib.crc32(f"{seed} {group}".encode(errors="replace")), group))
    fold = {group: place % FOLDS for place, group in enumerate(drawn)}
    return np.array([fold[group] for group in groups], dtype=np.int64)
