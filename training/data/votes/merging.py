"""Votes: rows of the same query, candidate and language become one row that keeps the share and number of its votes.

Queries and candidates are equal if their `query_key` is. Each row is one vote for its label; a row with `label_votes`
is that many votes, `label_share` of them for label 1. The weight of a vote is the `label_weight` of its row. The first
original row remains (the first row if all were made by augmentation), with

- `label_share`: the weighted share of votes for label 1, and `label_votes`: their number;
- `label`: 1 if the share is one half or more: a tie is a 1, like a score that equals the threshold. Where rows have a
  `label_cut` (training.data.labels.clicks), its mean stands in place of one half;
- `label_weight`: the mean weight of the votes. How far they agree is in the share, which is the training target;
- `merged_ids` and `merged_source_ids`: the ids and the sources of the other rows.

Its `clicks` and `impressions` are removed: the votes hold those of all rows.

Merging merged rows gives the same result as merging all rows at once.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, query_key
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids
from training.data.labels.clicks import CLICKS, IMPRESSIONS
from training.data.labels.weights import (
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
from training.data.stored.batches import mentions, to_batch, to_rows
from training.data.stored.buckets import PLACED
from training.data.votes.ballots import ROUNDING, Ballot
from training.data.votes.contradictions import Contradictions

TAGGED_LANGUAGE = "tagged_language"  # the extra that keeps the language tag of the file, if cleaning changed it
_LABELS = "label_"  # begins the names of all extras that change what a row's vote is
_SHOWN = 20
_SHOWN_IDS = 20


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


def tag_of(row: LabeledPair) -> str:
    """Return the language tag of a row in its file, even if cleaning changed it since."""
    return str(row.extra.get(TAGGED_LANGUAGE, row.pair.language))


class VoteMerger:
    """Merges the rows of each pair into one, bucket by bucket: all rows of a pair have to be in one bucket."""

    def __init__(self, action: Contradictions) -> None:
        self._action = action
        self._counts: Counter[str] = Counter()
        self._examples: list[tuple[int, Contradiction]] = []  # place of the first row of a pair, and the pair

    def merge(self, bucket: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows that remain of a bucket (KEYED), with the places of those that remain (PLACED).

        InputError if a `label_weight`, `label_share`, `label_votes` or `label_cut` is out of range.
        """
        pairs = _pair_numbers(bucket)
        voting = (np.bincount(pairs)[pairs] > 1) | mentions(bucket, _LABELS)
        yield bucket.filter(pa.array(~voting)).select(PLACED.names)
        if voting.any():
            yield self._merged(bucket.filter(pa.array(voting)))

    def report(self) -> VoteReport:
        """Return what was merged so far."""
        first = heapq.nsmallest(_SHOWN, self._examples, key=lambda example: example[0])
        counts = {name: self._counts[name] for name in VoteReport.model_fields if name != "examples"}
        return VoteReport(**counts, examples=tuple(example for _, example in first))

    def _merged(self, bucket: pa.RecordBatch) -> pa.RecordBatch:
        rows, places = to_rows(bucket), bucket.column("place").to_pylist()
        ballots = _ballots(rows)
        members: defaultdict[int, list[int]] = defaultdict(list)
        for at, pair in enumerate(_pair_numbers(bucket).tolist()):
            members[pair].append(at)
        groups = [_Group(at, _counted([ballots[n] for n in at])) for at in members.values()]
        left = [group for group in groups if not _is_dropped(group.ballot, self._action)]
        self._count(rows, groups, len(groups) - len(left))
        both = ((places[group.places[0]], group) for group in groups if group.ballot.has_both)
        for place, group in heapq.nsmallest(_SHOWN, both, key=lambda item: item[0]):
            self._examples.append((place, _shown(rows, group)))
        kept = [places[group.first(rows)] for group in left]
        return to_batch([group.row(rows) for group in left]).append_column("place", pa.array(kept, pa.int64()))

    def _count(self, rows: Sequence[LabeledPair], groups: Sequence["_Group"], dropped: int) -> None:
        voted = [group for group in groups if group.ballot.votes > 1]
        both = [group for group in groups if group.ballot.has_both]
        self._counts.update(
            merged_rows=len(rows) - len(groups),
            voted_pairs=len(voted),
            votes=sum(group.ballot.votes for group in voted),
            contradictory_pairs=len(both),
            contradictory_votes=sum(group.ballot.votes for group in both),
            ties=sum(group.ballot.is_tie for group in both),
            dropped=dropped,
        )


def tags_of(batch: pa.RecordBatch) -> list[str]:
    """Return the language tag [N] of each row in its file, even if cleaning changed it since."""
    tags = batch.column("language").to_pylist()
    for at in np.flatnonzero(mentions(batch, TAGGED_LANGUAGE)).tolist():
        tags[at] = tag_of(to_rows(batch.slice(at, 1))[0])
    return tags


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
        if abs(self.ballot.cut - HALF) > ROUNDING:
            extra[LABEL_CUT] = self.ballot.cut
        further = [name for name in sources if name != str(extra.get(SOURCE_ID))]
        extra |= {MERGED_IDS: list(ids)} if ids else {}
        extra |= {MERGED_SOURCE_IDS: further} if further else {}
        return replace(kept, label=self.ballot.label, extra=extra)


def _pair_numbers(bucket: pa.RecordBatch) -> NDArray[np.int64]:
    """Return the number [N] of each row's (query, candidate, language tag) in a bucket, in the order of first rows."""
    candidates = bucket.column("candidate").dictionary_encode()
    keys: dict[str, int] = {}
    known = np.array([keys.setdefault(query_key(text), len(keys)) for text in candidates.dictionary.to_pylist()])
    numbers = known[candidates.indices.to_numpy()] if bucket.num_rows else known
    pairs: dict[tuple[str, int, str], int] = {}
    rows = zip(bucket.column("key").to_pylist(), numbers.tolist(), tags_of(bucket), strict=True)
    return np.fromiter((pairs.setdefault(row, len(pairs)) for row in rows), np.int64, bucket.num_rows)


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
