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
from numpy.typing import NDArray

from relevance.model.card import PriorSummary
from relevance.model.prior import CategoryPrior, PriorFeatures
from relevance.tasks import LabeledPair
from relevance.text.formatting import PairFormat
from training.data.extras import is_negative
from training.data.groups import linked_groups
from training.data.labels.weights import label_shares, label_weights

log = logging.getLogger(__name__)

FOLDS = 5
STRENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 1e6)


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
    whole, *others = (
        _table([i for i, weight in enumerate(counted) if weight and folds[i] != fold], paths, shares, counted)
        for fold in (-1, *range(FOLDS))
    )
    found = {strength: _features([_with(table, strength) for table in others], paths, folds) for strength in STRENGTHS}
    strength = min(STRENGTHS, key=lambda each: _log_loss(found[each], shares, counted))
    table = _with(whole, strength)
    log.info("category prior: %d paths from %.0f rows, strength %g", table.paths, table.rows, strength)
    return FittedPrior(table, found[strength])


def _table(places: Sequence[int], paths: Sequence[Sequence[str]], *columns: Sequence[float]) -> CategoryPrior:
    shares, weights = ([column[i] for i in places] for column in columns)
    return CategoryPrior.of([paths[i] for i in places], shares, weights, FOLDS)


def _with(table: CategoryPrior, strength: float) -> CategoryPrior:
    return CategoryPrior(strength=strength, folds=FOLDS, counts=table.counts)


def _features(
    tables: Sequence[CategoryPrior], paths: Sequence[Sequence[str]], folds: NDArray[np.int64]
) -> list[PriorFeatures]:
    return [tables[fold].features(levels) for fold, levels in zip(folds, paths, strict=True)]


def _log_loss(features: Sequence[PriorFeatures], shares: Sequence[float], weights: Sequence[float]) -> float:
    """Return the log loss of the leaf's rate on shares [N], with weights [N] of which not all are 0."""
    weight = np.array(weights) / max(sum(weights), 1e-9)
    rate = np.clip(weight @ shares, 1e-6, 1 - 1e-6)
    logits = np.array([leaf for leaf, _, _ in features]) + np.log(rate / (1 - rate))
    return float(weight @ (np.logaddexp(0, logits) - np.array(shares) * logits))


def _folds(rows: Sequence[LabeledPair], seed: int) -> NDArray[np.int64]:
    """Return the fold [N] of each row: its group's place in an order drawn by the seed, so that folds are equal."""
    groups = linked_groups(rows)
    drawn = sorted(set(groups), key=lambda group: (zlib.crc32(f"{seed} {group}".encode(errors="replace")), group))
    fold = {group: place % FOLDS for place, group in enumerate(drawn)}
    return np.array([fold[group] for group in groups], dtype=np.int64)
