"""The votes on pairs, added up by pair: their share, weight and label, as columns."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.labels.weights import HALF, label_cuts, label_shares, label_votes, label_weights
from training.data.stored.batches import mentions, to_rows

ROUNDING = 1e-9
LABELS = "label_"  # begins the names of all extras that change what a row's vote is

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Ballots:
    """Votes on each of some pairs [G]: their number, those for label 1, both by weight, and the sums of label cuts."""

    votes: Floats
    positive: Floats
    weight: Floats
    positive_weight: Floats
    cuts: Floats

    @classmethod
    def of(cls, rows: pa.RecordBatch, pairs: NDArray[np.int64]) -> "Ballots":
        """Return the votes of rows (SCHEMA), given the number of each row's pair [N]: 0 to G - 1.

        InputError if a `label_weight`, `label_share`, `label_votes` or `label_cut` is out of range.
        """
        share = rows.column("label").to_numpy().astype(np.float64)
        votes, weight, cut = np.ones(len(share)), np.ones(len(share)), np.full(len(share), HALF)
        at = np.flatnonzero(mentions(rows, LABELS))
        if at.size:
            some = to_rows(rows.take(pa.array(at)))
            share[at], votes[at], weight[at] = label_shares(some), label_votes(some), label_weights(some)
            cut[at] = label_cuts(some)
        columns = votes, share * votes, weight * votes, share * weight * votes, cut * votes
        return cls(*(np.bincount(pairs, column) for column in columns))

    @cached_property
    def share(self) -> Floats:
        """The weighted share of votes for label 1; the plain one where no vote has a weight."""
        has_weight = self.weight > ROUNDING
        weighted = _snapped(self.positive_weight) / np.where(has_weight, _snapped(self.weight), 1)
        return np.where(has_weight, np.minimum(weighted, 1), _snapped(self.positive) / self.votes)

    @cached_property
    def cut(self) -> Floats:
        """The share from which the label is 1."""
        return self.cuts / self.votes

    @cached_property
    def is_rate(self) -> Bools:
        """Whether the cut is not one half, as that of clicks."""
        return np.abs(self.cut - HALF) > ROUNDING

    @cached_property
    def is_tie(self) -> Bools:
        """Whether both labels have the same weight."""
        return np.abs(self.share - self.cut) < ROUNDING

    @cached_property
    def has_both(self) -> Bools:
        """Whether both labels have votes. Clicks are no votes for and against: rows with another cut never do."""
        return (self.votes > 1) & ~self.is_rate & (self.share > ROUNDING) & (self.share < 1 - ROUNDING)

    @cached_property
    def label(self) -> NDArray[np.int8]:
        """The label of the majority; 1 for a tie."""
        return (self.share >= self.cut - ROUNDING).astype(np.int8)

    @cached_property
    def label_weight(self) -> Floats:
        """The mean weight of a vote."""
        return np.minimum(_snapped(self.weight) / self.votes, 1)


def _snapped(values: Floats) -> Floats:
    """Round sums of shares to integers where the difference is a rounding error."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < ROUNDING, whole, values)
