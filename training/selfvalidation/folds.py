"""Folds by group: a query, its translations and the negatives made of its rows are all in one fold.

Groups are those of training.data.groups.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.groups import iter_groups
from training.data.splitting.assignment import assign
from training.data.splitting.group_table import Groups, GroupTable
from training.data.stored.rows import strata_of

TRAIN, DEV, HELD = range(3)
Numbers = NDArray[np.int8]


def assign_folds(rows: Sequence[LabeledPair], folds: int, seed: int) -> Numbers:
    """Return the fold [N] in [0, folds) of each row, stratified by language and label as far as whole groups allow.

    The same rows and seed give the same folds in any order of rows. InputError where groups are fewer than folds.
    """
    groups = _groups(rows)
    return groups.by_row(_folds(groups, folds, seed))


def dev_part(rows: Sequence[LabeledPair], share: float, seed: int) -> NDArray[np.bool_]:
    """Return True [N] for whole groups with about `share` of the rows. InputError where there are too few groups."""
    groups = _groups(rows)
    return groups.by_row(_dev(groups, share, seed)) == DEV


def fold_parts(rows: Sequence[LabeledPair], folds: int, dev_share: float, seed: int) -> Iterator[Numbers]:
    """Yield for each fold what the rows [N] are for: HELD, those of the fold, and of the others TRAIN and DEV.

    Whole groups are DEV, with about `dev_share` of the other rows. InputError where there are too few groups.
    """
    groups = _groups(rows)
    of_group = _folds(groups, folds, seed)
    for fold in range(folds):
        others = of_group != fold
        part = np.full(len(groups), HELD, dtype=np.int8)
        part[others] = _dev(groups.subset(others), dev_share, seed + fold)
        yield groups.by_row(part)


def _groups(rows: Sequence[LabeledPair]) -> GroupTable:
    return GroupTable(zip(iter_groups(rows), strata_of(rows), strict=True), len(rows))


def _folds(groups: Groups, folds: int, seed: int) -> Numbers:
    return assign(groups, dict.fromkeys(map(str, range(folds)), 1 / folds), (), seed)


def _dev(groups: Groups, share: float, seed: int) -> Numbers:
    """Return TRAIN or DEV for each group [G]."""
    return assign(groups, {"rest": 1 - share, "dev": share}, (), seed)
