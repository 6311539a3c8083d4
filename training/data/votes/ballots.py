"""The votes on one pair, added up: their share, weight and label."""

from typing import NamedTuple

from training.data.labels.weights import HALF

ROUNDING = 1e-9


class Ballot(NamedTuple):
    """Votes on one pair: their number, those for label 1, both by weight, and the sum of the cuts of their labels."""

    votes: int
    positive: float
    weight: float
    positive_weight: float
    cuts: float

    @property
    def share(self) -> float:
        """The weighted share of votes for label 1; the plain one where no vote has a weight."""
        if self.weight > ROUNDING:
            return min(_snapped(self.positive_weight) / _snapped(self.weight), 1.0)
        return _snapped(self.positive) / self.votes

    @property
    def cut(self) -> float:
        """The share from which the label is 1."""
        return self.cuts / self.votes

    @property
    def is_tie(self) -> bool:
        """Whether both labels have the same weight."""
        return abs(self.share - self.cut) < ROUNDING

    @property
    def has_both(self) -> bool:
        """Whether both labels have votes. Clicks are no votes for and against: rows with another cut never do."""
        is_rate = abs(self.cut - HALF) > ROUNDING
        return self.votes > 1 and not is_rate and ROUNDING < self.share < 1 - ROUNDING

    @property
    def label(self) -> int:
        """The label of the majority; 1 for a tie."""
        return int(self.share >= self.cut - ROUNDING)

    @property
    def label_weight(self) -> float:
        """The mean weight of a vote."""
        return min(_snapped(self.weight) / self.votes, 1.0)


def _snapped(value: float) -> float:
    """Round a sum of shares to an integer if the difference is a rounding error."""
    return float(round(value)) if abs(value - round(value)) < ROUNDING else value
