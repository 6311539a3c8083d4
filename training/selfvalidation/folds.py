"""Folds by group: a query, its translations and the negatives made of its rows are all in one fold.

Groups are those of training.data.groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, Pair
from training.data.groups import linked_groups
from training.data.splits import split_pairs


def assign_folds(rows: Sequence[LabeledPair], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold [N] in [0, folds) of each row, stratified by language and label as far as whole groups allow.

    The same rows and seed give the same folds in any order of rows. InputError where groups are fewer than folds.
    """
    return _split(rows, dict.fromkeys(map(str, range(folds)), 1 / folds), seed)


def dev_part(rows: Sequence[LabeledPair], share: float, seed: int) -> NDArray[np.bool_]:
    """Return True [N] for whole groups with about `share` of the rows. InputError where there are too few groups."""
    return _split(rows, {"0": 1 - share, "1": share}, seed).astype(bool)


def _split(rows: Sequence[LabeledPair], fractions: dict[str, float], seed: int) -> NDArray[np.int64]:
    """Split by group: `split_pairs` splits by query, so it gets rows whose query is the name of their group."""
    named = [
        LabeledPair(Pair(group, "", row.pair.language), row.label, str(at))
        for at, (group, row) in enumerate(zip(linked_groups(rows), rows, strict=True))
    ]
    found = np.zeros(len(rows), dtype=np.int64)
    for name, members in split_pairs(named, fractions=fractions, seed=seed).items():
        found[[int(member.id) for member in members]] = int(name)
    return found
