"""How much each row counts in training: the extra `label_weight`, which self-validation writes for doubtful labels."""

import math
from collections.abc import Sequence

from relevance.errors import InputError
from relevance.tasks import LabeledPair

LABEL_WEIGHT = "label_weight"


def label_weights(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the weight [N] of each row in [0, 1]; 1 where it has none. InputError names those out of range."""
    weights = [_number(row.extra.get(LABEL_WEIGHT)) for row in rows]
    wrong = [row for row, weight in zip(rows, weights, strict=True) if not 0 <= weight <= 1]
    if wrong:
        raise InputError(
            f"{len(wrong)} rows have a {LABEL_WEIGHT} out of range (first: id {wrong[0].id!r}, "
            f"{wrong[0].extra[LABEL_WEIGHT]!r}); expected numbers from 0 to 1"
        )
    return weights


def _number(value: object) -> float:
    if value is None or value == "":
        return 1.0
    try:
        return float(str(value))
    except ValueError:
        return math.nan
