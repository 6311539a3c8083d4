"""Votes: rows of the same query, candidate and language become one row that keeps the share and number of its votes.

Queries and candidates are equal if their `query_key` is. Each row is one vote for its label; a row with `label_votes`
is that many votes, `label_share` of them for label 1. The weight of a vote is the `label_weight` of its row. The first
original row remains (the first row if all were made by augmentation), with

- `label_share`: the weighted share of votes for label 1, and `label_votes`: their number;
- `label`: 1 if the share is one half or more: a tie is a 1, like a score that equals the threshold. Where rows have a
  `label_cut` (training.data.clicks), its mean stands in place of one half;
- `label_weight`: the mean weight of the votes. How far they agree is in the share, which is the training target;
- `merged_ids` and `merged_source_ids`: the ids and the sources of the other rows.

Its `clicks` and `impressions` are removed: the votes hold those of all rows.

Merging merged rows gives the same result as merging all rows at once.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, query_key
from training.data.clicks import CLICKS, IMPRESSIONS
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids
from training.data.weights import (
    HALF,
    LABEL_CUT,
    LABEL_SHARE,
    LABEL_VOTES,
    LABEL_WEIGHT,
    label_cuts,
    label_shares,
    label_votes,
    label_weights,
)

TAGGED_LANGUAGE = "tagged_language"  # the extra that keeps the language tag of the file, if cleaning changed it
_SHOWN = 20
_SHOWN_IDS = 20
_ROUNDING = 1e-9


class Contradictions(StrEnum):
    """What to do with pairs that have votes for both labels.

    MERGE keeps each as one row, MAJORITY drops ties, DROP drops all of them.
    """

    MERGE = "merge"
    MAJORITY = "majority"
    DROP = "drop"


class Contradiction(BaseModel):
    """One pair with both labels: how many votes each has, and the ids of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str
    candidate: str
    positive: int
    negative: int
    ids: tuple[str, ...]


class VoteReport(BaseModel):
    """What merging did. `merged_rows` became part of another row; `votes` are those of all `voted_pairs`.

    `voted_pairs` have several votes, `contradictory_pairs` votes for both labels, `ties` as many for each. `dropped`
    counts pairs that were left out. `examples` shows the first contradictory pairs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    merged_rows: int
    voted_pairs: int
    votes: int
    contradictory_pairs: int
    contradictory_votes: int
    ties: int
    dropped: int
    examples: tuple[Contradiction, ...]


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
        if self.weight > _ROUNDING:
            return min(_snapped(self.positive_weight) / _snapped(self.weight), 1.0)
        return _snapped(self.positive) / self.votes

    @property
    def cut(self) -> float:
        """The share from which the label is 1."""
        return self.cuts / self.votes

    @property
    def is_tie(self) -> bool:
        """Whether both labels have the same weight."""
        return abs(self.share - self.cut) < _ROUNDING

    @property
    def has_both(self) -> bool:
        """Whether both labels have votes. Clicks are no votes for and against: rows with another cut never do."""
        is_rate = abs(self.cut - HALF) > _ROUNDING
        return self.votes > 1 and not is_rate and _ROUNDING < self.share < 1 - _ROUNDING

    @property
    def label(self) -> int:
        """The label of the majority; 1 for a tie."""
        return int(self.share >= self.cut - _ROUNDING)

    @property
    def label_weight(self) -> float:
        """The mean weight of a vote."""
        return min(_snapped(self.weight) / self.votes, 1.0)


def tag_of(row: LabeledPair) -> str:
    """Return the language tag of a row in its file, even if cleaning changed it since."""
    return str(row.extra.get(TAGGED_LANGUAGE, row.pair.language))


def merge_votes(rows: Sequence[LabeledPair], action: Contradictions) -> tuple[list[LabeledPair], VoteReport]:
    """Return one row for each pair, at the place of the row that remains, and the report.

    Rows without a duplicate are returned as the same objects. InputError if a `label_weight`, `label_share` or
    `label_votes` is out of range.
    """
    ballots = _ballots(rows)
    groups = [_Group(places, _counted([ballots[at] for at in places])) for places in _places(rows)]
    left = [(group.first(rows), group) for group in groups if not _is_dropped(group.ballot, action)]
    merged = [group.row(rows) for _, group in sorted(left, key=lambda item: item[0])]
    return merged, _report(rows, groups, len(groups) - len(left))


@dataclass(frozen=True, slots=True)
class _Group:
    """The indices of the rows of one pair, and the sum of their votes."""

    places: list[int]
    ballot: Ballot

    def first(self, rows: Sequence[LabeledPair]) -> int:
        """Return the index of the row that remains: the first original one."""
        return next((at for at in self.places if SOURCE_ID not in rows[at].extra), self.places[0])

    def row(self, rows: Sequence[LabeledPair]) -> LabeledPair:
        """Return the one row of the pair."""
        kept = rows[self.first(rows)]
        if len(self.places) == 1:
            return kept
        members = [rows[at] for at in self.places]
        ids = dict.fromkeys(name for row in members for name in own_ids(row) if name != kept.id)
        sources = dict.fromkeys(name for row in members for name in source_ids(row))
        changed = {
            LABEL_WEIGHT,
            LABEL_SHARE,
            LABEL_VOTES,
            LABEL_CUT,
            MERGED_IDS,
            MERGED_SOURCE_IDS,
            CLICKS,
            IMPRESSIONS,
        }
        extra = {name: value for name, value in kept.extra.items() if name not in changed}
        extra |= {LABEL_SHARE: self.ballot.share, LABEL_VOTES: self.ballot.votes}
        if self.ballot.label_weight < 1:
            extra[LABEL_WEIGHT] = self.ballot.label_weight
        if abs(self.ballot.cut - HALF) > _ROUNDING:
            extra[LABEL_CUT] = self.ballot.cut
        further = [name for name in sources if name != str(extra.get(SOURCE_ID))]
        extra |= {MERGED_IDS: list(ids)} if ids else {}
        extra |= {MERGED_SOURCE_IDS: further} if further else {}
        return replace(kept, label=self.ballot.label, extra=extra)


def _places(rows: Sequence[LabeledPair]) -> list[list[int]]:
    """Return the indices of the rows of every (query, candidate, language tag), in the order of first rows."""
    places: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        places[query_key(row.pair.query), query_key(row.pair.candidate), tag_of(row)].append(at)
    return list(places.values())


def _ballots(rows: Sequence[LabeledPair]) -> list[Ballot]:
    columns = zip(label_shares(rows), label_votes(rows), label_weights(rows), label_cuts(rows), strict=True)
    return [
        Ballot(votes, share * votes, weight * votes, share * weight * votes, cut * votes)
        for share, votes, weight, cut in columns
    ]


def _counted(ballots: Sequence[Ballot]) -> Ballot:
    """Return all votes as one ballot."""
    return Ballot(*map(sum, zip(*ballots, strict=True)))


def _is_dropped(ballot: Ballot, action: Contradictions) -> bool:
    if action is Contradictions.MERGE or not ballot.has_both:
        return False
    return action is Contradictions.DROP or ballot.is_tie


def _report(rows: Sequence[LabeledPair], groups: Sequence[_Group], dropped: int) -> VoteReport:
    voted = [group for group in groups if group.ballot.votes > 1]
    both = [group for group in groups if group.ballot.has_both]
    return VoteReport(
        merged_rows=len(rows) - len(groups),
        voted_pairs=len(voted),
        votes=sum(group.ballot.votes for group in voted),
        contradictory_pairs=len(both),
        contradictory_votes=sum(group.ballot.votes for group in both),
        ties=sum(group.ballot.is_tie for group in both),
        dropped=dropped,
        examples=tuple(_shown(rows, group) for group in both[:_SHOWN]),
    )


def _shown(rows: Sequence[LabeledPair], group: _Group) -> Contradiction:
    members = [rows[at] for at in group.places]
    positive = round(group.ballot.positive)
    return Contradiction(
        query=members[0].pair.query,
        candidate=members[0].pair.candidate,
        positive=positive,
        negative=group.ballot.votes - positive,
        ids=tuple(name for row in members for name in own_ids(row))[:_SHOWN_IDS],
    )


def _snapped(value: float) -> float:
    """Round a sum of shares to an integer if the difference is a rounding error."""
    return float(round(value)) if abs(value - round(value)) < _ROUNDING else value
