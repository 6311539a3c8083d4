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
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, query_key
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids
from training.data.labels.clicks import CLICKS, IMPRESSIONS
from training.data.labels.weights import LABEL_CUT, LABEL_SHARE, LABEL_VOTES, LABEL_WEIGHT
from training.data.stored.batches import mentions, packed, to_rows
from training.data.stored.buckets import PLACED
from training.data.votes.ballots import LABELS, Ballots
from training.data.votes.contradictions import Contradictions

TAGGED_LANGUAGE = "tagged_language"  # the extra that keeps the language tag of the file, if cleaning changed it
# What a row of several has of its own or not at all.
_REPLACED = frozenset(
    {LABEL_WEIGHT, LABEL_SHARE, LABEL_VOTES, LABEL_CUT, MERGED_IDS, MERGED_SOURCE_IDS, CLICKS, IMPRESSIONS}
)
_SPECIAL = "|".join((LABELS, MERGED_IDS, MERGED_SOURCE_IDS, CLICKS, IMPRESSIONS, SOURCE_ID))  # in extras that are read
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
        voting = (np.bincount(pairs)[pairs] > 1) | mentions(bucket, LABELS)
        yield bucket.filter(pa.array(~voting)).select(PLACED.names)
        if voting.any():
            yield self._merged(_Voters(bucket.filter(pa.array(voting)).select(PLACED.names), pairs[voting]))

    def report(self) -> VoteReport:
        """Return what was merged so far."""
        first = heapq.nsmallest(_SHOWN, self._examples, key=lambda example: example[0])
        counts = {name: self._counts[name] for name in VoteReport.model_fields if name != "examples"}
        return VoteReport(**counts, examples=tuple(example for _, example in first))

    def _merged(self, voters: "_Voters") -> pa.RecordBatch:
        ballots = voters.ballots
        dropped = np.zeros(len(voters.sizes), dtype=bool)
        if self._action is not Contradictions.MERGE:
            dropped = ballots.has_both & (ballots.is_tie if self._action is Contradictions.MAJORITY else True)
        self._count(voters, int(dropped.sum()))
        both = np.flatnonzero(ballots.has_both).tolist()
        for pair in heapq.nsmallest(_SHOWN, both, key=voters.place):
            self._examples.append((voters.place(pair), voters.shown(pair)))
        return voters.merged(np.flatnonzero(~dropped))

    def _count(self, voters: "_Voters", dropped: int) -> None:
        ballots = voters.ballots
        voted, both = ballots.votes > 1, ballots.has_both
        self._counts.update(
            merged_rows=voters.rows.num_rows - len(voters.sizes),
            voted_pairs=int(voted.sum()),
            votes=int(ballots.votes[voted].sum()),
            contradictory_pairs=int(both.sum()),
            contradictory_votes=int(ballots.votes[both].sum()),
            ties=int((ballots.is_tie & both).sum()),
            dropped=dropped,
        )


def tags_of(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the language tag [N] of each row in its file, even if cleaning changed it since."""
    tags, changed = batch.column("language"), mentions(batch, TAGGED_LANGUAGE)
    if not changed.any():
        return tags
    found = [tag_of(row) for row in to_rows(batch.filter(pa.array(changed)))]
    return pc.replace_with_mask(tags, pa.array(changed), pa.array(found, pa.string()))


class _Voters:
    """Rows (PLACED) that vote, by place, and the votes on each of their pairs [G]. `sizes` [G] counts a pair's rows.

    Only rows whose extras refer to others, or say what a label is worth, become Python objects.
    """

    def __init__(self, rows: pa.RecordBatch, pairs: NDArray[np.int64]) -> None:
        self.rows = rows
        _, numbers, self.sizes = np.unique(pairs, return_inverse=True, return_counts=True)
        self._order = np.argsort(numbers, kind="stable")  # the rows of a pair side by side
        self._ends = np.cumsum(self.sizes)
        self.ballots = Ballots.of(rows, numbers)
        found = pc.match_substring_regex(rows.column("extra"), _SPECIAL)
        special = np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)
        self._is_special = np.bincount(numbers, special) > 0
        at = np.flatnonzero(self._is_special[numbers] & (self.sizes[numbers] > 1))
        self._read = dict(zip(at.tolist(), to_rows(rows.take(pa.array(at))), strict=True))
        made = np.zeros(rows.num_rows, dtype=np.int64)
        made[[n for n, row in self._read.items() if SOURCE_ID in row.extra]] = rows.num_rows
        first = np.full(len(self.sizes), 2 * rows.num_rows)
        np.minimum.at(first, numbers, made + np.arange(rows.num_rows))
        self._kept = first % max(rows.num_rows, 1)  # the row of each pair that remains: the first original one

    def place(self, pair: int) -> int:
        """Return the place of the first row of a pair."""
        return int(self.rows.column("place")[self._members(pair)[0]].as_py())

    def shown(self, pair: int) -> Contradiction:
        """Return a pair with both labels as an example."""
        members = to_rows(self.rows.take(pa.array(self._members(pair))))
        positive = round(float(self.ballots.positive[pair]))
        return Contradiction(
            query=members[0].pair.query,
            candidate=members[0].pair.candidate,
            positive=positive,
            negative=int(self.ballots.votes[pair]) - positive,
            ids=tuple(name for row in members for name in own_ids(row))[:_SHOWN_IDS],
        )

    def merged(self, pairs: NDArray[np.int64]) -> pa.RecordBatch:
        """Return the one row (PLACED) of each of some pairs."""
        kept = self.rows.take(pa.array(self._kept[pairs]))
        several = self.sizes[pairs] > 1
        ids, texts = self.rows.column("id").to_pylist(), kept.column("extra").to_pylist()
        for at in np.flatnonzero(several).tolist():
            texts[at] = self._extra(int(pairs[at]), texts[at], ids)
        labels = np.where(several, self.ballots.label[pairs], kept.column("label").to_numpy())
        columns = {"label": pa.array(labels, pa.int8()), "extra": pa.array(texts, pa.string())}
        return pa.RecordBatch.from_arrays(
            [columns.get(name, kept.column(name)) for name in PLACED.names], schema=PLACED
        )

    def _members(self, pair: int) -> list[int]:
        end = int(self._ends[pair])
        return self._order[end - int(self.sizes[pair]) : end].tolist()

    def _extra(self, pair: int, text: str | None, ids: list[bytes]) -> str | None:
        """Return the extras of the one row of several, as JSON, given those of the row that remains."""
        kept, members = int(self._kept[pair]), self._members(pair)
        if self._is_special[pair]:
            return packed(_merged_extra(self._read[kept], [self._read[at] for at in members], self._votes(pair)))
        others = dict.fromkeys(ids[at].decode("utf-8", "surrogatepass") for at in members if ids[at] != ids[kept])
        added = packed(self._votes(pair) | ({MERGED_IDS: list(others)} if others else {}))
        return added if text is None or added is None else f"{text[:-1]}, {added[1:]}"

    def _votes(self, pair: int) -> dict[str, Any]:
        """Return the extras that say what the label of a pair is worth."""
        ballots = self.ballots
        votes: dict[str, Any] = {LABEL_SHARE: float(ballots.share[pair]), LABEL_VOTES: int(ballots.votes[pair])}
        if ballots.label_weight[pair] < 1:
            votes[LABEL_WEIGHT] = float(ballots.label_weight[pair])
        if ballots.is_rate[pair]:
            votes[LABEL_CUT] = float(ballots.cut[pair])
        return votes


def _merged_extra(kept: LabeledPair, members: Sequence[LabeledPair], votes: dict[str, Any]) -> dict[str, Any]:
    """Return the extras of the one row of several: those of the row that remains, the votes, and the others' ids."""
    ids = dict.fromkeys(name for row in members for name in own_ids(row) if name != kept.id)
    sources = dict.fromkeys(name for row in members for name in source_ids(row))
    extra = {name: value for name, value in kept.extra.items() if name not in _REPLACED} | votes
    further = [name for name in sources if name != str(extra.get(SOURCE_ID))]
    extra |= {MERGED_IDS: list(ids)} if ids else {}
    return extra | ({MERGED_SOURCE_IDS: further} if further else {})


def _pair_numbers(bucket: pa.RecordBatch) -> NDArray[np.int64]:
    """Return the number [N] of each row's (query, candidate, language tag) in a bucket."""
    keys, tags = bucket.column("key").dictionary_encode(), tags_of(bucket).dictionary_encode()
    candidates = bucket.column("candidate").dictionary_encode()
    found: dict[str, int] = {}
    known = [found.setdefault(query_key(text), len(found)) for text in candidates.dictionary.to_pylist()]
    numbers = np.array(known, dtype=np.int64)[candidates.indices.to_numpy()]
    numbers += keys.indices.to_numpy().astype(np.int64) * len(found)
    numbers = numbers * len(tags.dictionary) + tags.indices.to_numpy()
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
