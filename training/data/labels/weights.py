"""The target and weight of each row in training, and the votes for its label.

`label_share` in [0, 1] is the target of the row's loss: the share of votes for label 1, or a grade or rate as a share.
`label_weight` in [0, 1] is the weight of the loss: the mean weight of the votes, or what self-validation gives to a
doubtful label. `label_votes` is the number of votes. `label_cut` is the share from which the label is 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relevance.errors import InputError
from relevance.tasks import LabeledPair
from training.data.labels.grades import count_of, number_of
from training.data.values import is_missing

LABEL_WEIGHT = "label_weight"
LABEL_SHARE = "label_share"
LABEL_VOTES = "label_votes"
LABEL_CUT = "label_cut"
HALF = 0.5  # the cut where a row has no other: the label is that of the majority, and 1 for a tie


def label_weights(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the weight [N] of each row in [0, 1]; the default is 1. InputError names those out of range."""
    return _numbers(rows, LABEL_WEIGHT, lambda row: 1.0, _is_share, "numbers from 0 to 1")


def label_shares(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the target [N] of each row, the share of votes for label 1; the default is the label.

    InputError names those out of range.
    """
    return _numbers(rows, LABEL_SHARE, lambda row: float(row.label), _is_share, "numbers from 0 to 1")


def label_votes(rows: Sequence[LabeledPair]) -> list[int]:
    """Return the number [N] of votes of each row; the default is 1. InputError names those that are no counts."""
    found = _numbers(
        rows, LABEL_VOTES, lambda row: 1.0, lambda value: value >= 1, "whole numbers from 1", read=count_of
    )
    return [int(value) for value in found]


def label_cuts(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the share [N] from which each row's label is 1; the default is one half. InputError as the others."""
    return _numbers(rows, LABEL_CUT, lambda row: HALF, _is_share, "numbers from 0 to 1")


def has_other_share(label: int | None, extra: Mapping[str, Any]) -> bool:
    """Return whether the `label_share` among a row's extras is beyond its cut on the side of the other label."""
    if LABEL_SHARE not in extra:
        return False
    share, cut = _number(extra.get(LABEL_SHARE), math.nan, number_of), _number(extra.get(LABEL_CUT), HALF, number_of)
    return share < cut if label == 1 else label == 0 and share > cut


def _numbers(
    rows: Sequence[LabeledPair],
    name: str,
    default: Callable[[LabeledPair], float],
    is_right: Callable[[float], bool],
    expected: str,
    read: Callable[[object], float | None] = number_of,
) -> list[float]:
    values = [_number(row.extra.get(name), default(row), read) for row in rows]
    wrong = [row for row, value in zip(rows, values, strict=True) if not (math.isfinite(value) and is_right(value))]
    if wrong:
        raise InputError(
            f"{len(wrong)} rows have a {name} out of range (first: id {wrong[0].id!r}, "
            f"{wrong[0].extra[name]!r}); expected {expected}"
        )
    return values


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _number(value: object, default: float, read: Callable[[object], float | None]) -> float:
    """Return a number; the default if it is missing, NaN if it is not a number."""
    if is_missing(value):
        return default
    number = read(value)
    return math.nan if number is None else number
