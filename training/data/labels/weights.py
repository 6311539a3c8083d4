"""The target and weight of each row in training, and the votes for its label.

`label_share` in [0, 1] is the target of the row's loss: the share of votes for label 1, or a grade or rate as a share.
`label_weight` in [0, 1] is the weight of the loss: the mean weight of the votes, or what self-validation gives to a
doubtful label. `label_votes` is the number of votes. `label_cut` is the share from which the label is 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevance.errors import InputError
from relevance.tasks import LabeledPair
from training.data.labels.grades import count_of, number_of
from training.data.values import is_missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LABEL_WEIGHT = "label_weight"
LABEL_SHARE = "label_share"
LABEL_VOTES = "label_votes"
LABEL_CUT = "label_cut"
HALF = 0.5  # the cut where a row has no other: the label is that of the majority, and 1 for a tie


@dataclass(frozen=True, slots=True)
class _Extra:
    """A number among the extras of rows: its name, its default, and which values are right."""

    name: str
    default: Callable[[LabeledPair], float]
    is_right: Callable[[float], bool]
    expected: str
    read: Callable[[object], float | None] = number_of

    def of(self, rows: Sequence[LabeledPair]) -> list[float]:
        """Return the number [N] of each row. InputError names those that are not right."""
        values = self._values(rows)
        wrong = self._wrong(rows, values)
        if wrong:
            raise self._fault(len(wrong), wrong[0])
        return values

    def column(self, rows: Sequence[LabeledPair], defaults: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return what `of` returns as an array [N], one batch of rows at a time. InputError as `of`.

        `defaults` [N] are the values of rows without the extra; they are changed in place.
        """
        # Heavy, and not needed where commands are declared.
        import numpy as np
        import pyarrow as pa

        from training.data.stored.batches import mentions, to_rows
        from training.data.stored.rows import batches_of

        found, count, at = defaults, 0, 0
        first: LabeledPair | None = None
        for batch in batches_of(rows):
            places = np.flatnonzero(mentions(batch, self.name))
            if len(places):
                some = to_rows(batch.take(pa.array(places)))
                values = self._values(some)
                found[at + places] = values
                wrong = self._wrong(some, values)
                first, count = first or next(iter(wrong), None), count + len(wrong)
            at += batch.num_rows
        if first is not None:
            raise self._fault(count, first)
        return found

    def _values(self, rows: Sequence[LabeledPair]) -> list[float]:
        return [_number(row.extra.get(self.name), self.default(row), self.read) for row in rows]

    def _wrong(self, rows: Sequence[LabeledPair], values: Sequence[float]) -> list[LabeledPair]:
        pairs = zip(rows, values, strict=True)
        return [row for row, value in pairs if not (math.isfinite(value) and self.is_right(value))]

    def _fault(self, count: int, first: LabeledPair) -> InputError:
        return InputError(
            f"{count} rows have a {self.name} out of range (first: id {first.id!r}, {first.extra[self.name]!r}); "
            f"expected {self.expected}"
        )


def label_weights(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the weight [N] of each row in [0, 1]; the default is 1. InputError names those out of range."""
    return _WEIGHT.of(rows)


def label_shares(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the target [N] of each row, the share of votes for label 1; the default is the label.

    InputError names those out of range.
    """
    return _SHARE.of(rows)


def weight_column(rows: Sequence[LabeledPair]) -> "NDArray[np.float64]":
    """Return what `label_weights` returns as an array [N], without holding the rows."""
    import numpy as np

    return _WEIGHT.column(rows, np.ones(len(rows)))


def share_column(rows: Sequence[LabeledPair]) -> "NDArray[np.float64]":
    """Return what `label_shares` returns as an array [N], without holding the rows."""
    import numpy as np

    from training.data.stored.rows import labels_of

    return _SHARE.column(rows, labels_of(rows).astype(np.float64))


def label_votes(rows: Sequence[LabeledPair]) -> list[int]:
    """Return the number [N] of votes of each row; the default is 1. InputError names those that are no counts."""
    return [int(value) for value in _VOTES.of(rows)]


def label_cuts(rows: Sequence[LabeledPair]) -> list[float]:
    """Return the share [N] from which each row's label is 1; the default is one half. InputError as the others."""
    return _CUT.of(rows)


def has_other_share(label: int | None, extra: Mapping[str, Any]) -> bool:
    """Return whether the `label_share` among a row's extras is beyond its cut on the side of the other label."""
    if LABEL_SHARE not in extra:
        return False
    share, cut = _number(extra.get(LABEL_SHARE), math.nan, number_of), _number(extra.get(LABEL_CUT), HALF, number_of)
    return share < cut if label == 1 else label == 0 and share > cut


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _number(value: object, default: float, read: Callable[[object], float | None]) -> float:
    """Return a number; the default if it is missing, NaN if it is not a number."""
    if is_missing(value):
        return default
    number = read(value)
    return math.nan if number is None else number


_WEIGHT = _Extra(LABEL_WEIGHT, lambda row: 1.0, _is_share, "numbers from 0 to 1")
_SHARE = _Extra(LABEL_SHARE, lambda row: float(row.label), _is_share, "numbers from 0 to 1")
_VOTES = _Extra(LABEL_VOTES, lambda row: 1.0, lambda value: value >= 1, "whole numbers from 1", count_of)
_CUT = _Extra(LABEL_CUT, lambda row: HALF, _is_share, "numbers from 0 to 1")
