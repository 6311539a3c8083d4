"""Translations that passed the gates, on disk in the order in which they came."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from relevance.tasks import LabeledPair, Pair
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID
from training.data.stored.batches import SCHEMA, in_chunks, to_batch, to_rows
from training.data.stored.buckets import PLACED, RowsByPlace
from training.data.stored.new_ids import NewIds
from training.data.stored.rows import StoredRows
from training.data.stored.spool import Spool, buckets_for
from training.data.votes.merging import TAGGED_LANGUAGE
from training.translation.chain import Translation
from training.translation.gates import Verdict
from training.translation.quota import LABELS
from training.translation.sources import Source

_OF_SOURCE_ALONE = frozenset({MERGED_IDS, MERGED_SOURCE_IDS, TAGGED_LANGUAGE})
_HELD_ROWS = 1024  # in memory at either end of a queue
_JUDGED = pa.schema(
    [
        *PLACED,
        pa.field("number", pa.int64()),
        pa.field("text", pa.string()),
        pa.field("translator", pa.string()),
        pa.field("similarity", pa.float64()),
        pa.field("is_copy", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A row, its translation, what the gates found, and how many translations were judged before."""

    source: Source
    found: Translation
    verdict: Verdict
    number: int

    def row(self, target: str) -> LabeledPair:
        """Return the row of the translation, under the id of its source."""
        row = self.source.row
        # Votes hold for the translation too; ids of merged rows and the tag of the source's query do not.
        extra = {name: value for name, value in row.extra.items() if name not in _OF_SOURCE_ALONE}
        extra |= {"source": "translation", SOURCE_ID: row.id, "strategy": self.found.translator}
        extra |= {"source_language": row.pair.language}
        extra |= {} if self.verdict.similarity is None else {"similarity": self.verdict.similarity}
        return LabeledPair(Pair(self.found.text, row.pair.candidate, target), row.label, row.id, extra)


class JudgedQueue:
    """Passed translations, first in, first out: all but some of both ends are on disk."""

    def __init__(self) -> None:
        self._spool = Spool(_JUDGED)
        self._first: deque[Judged] = deque()
        self._last: list[Judged] = []
        self._read = 0  # batches
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, judged: Judged) -> None:
        """Append one. MachineError if the disk is full."""
        self._last.append(judged)
        self._size += 1
        if len(self._last) == _HELD_ROWS:
            self._spool.add(_to_batch(self._last))
            self._last = []

    def first(self) -> Judged:
        """Return the first one; IndexError where there is none."""
        if not self._first:
            if self._read < len(self._spool.sizes(0)):
                self._first.extend(_from_batch(self._spool.batch(0, self._read)))
                self._read += 1
            else:
                self._first.extend(self._last)
                self._last = []
        return self._first[0]

    def take(self) -> Judged:
        """Return the first one and remove it; IndexError where there is none."""
        self.first()
        self._size -= 1
        return self._first.popleft()


class WaitingCopies:
    """Copies of their sources for which there was no room yet."""

    def __init__(self) -> None:
        self._queues = {label: JudgedQueue() for label in LABELS}

    def add(self, judged: Judged) -> None:
        """Append one. MachineError if the disk is full."""
        self._queues[judged.source.row.label].add(judged)

    def take(self, labels: Collection[int] = LABELS) -> Judged | None:
        """Return the one of these labels that came first and remove it; None where there is none."""
        queues = [self._queues[label] for label in labels if len(self._queues[label])]
        return min(queues, key=lambda queue: queue.first().number).take() if queues else None


def made_rows(accepted: Iterable[Judged], count: int, target: str, given: StoredRows) -> StoredRows:
    """Return the rows of about `count` translations, by the place of their source, under ids that no given row has.

    MachineError if the disk is full.
    """
    mark = f"~{target}".encode()
    ids = NewIds(given, mark, buckets_for(count))
    rows = Spool(PLACED, buckets_for(count))
    for chunk in in_chunks(accepted):
        batch = to_batch([judged.row(target) for judged in chunk])
        batch = batch.append_column("place", pa.array([judged.source.place for judged in chunk], pa.int64()))
        rows.scatter(batch, ids.bucket_of(batch.column("id").to_pylist()))

    def named(source: bytes, n: int) -> bytes:
        return source + mark + (f".{n}".encode() if n > 1 else b"")

    ordered = RowsByPlace(len(given))
    for bucket in range(rows.buckets):
        some = rows.whole(bucket).sort_by("place")
        names = ids.of_bucket(bucket, some.column("id").to_pylist(), named)
        columns = [pa.array(names, pa.binary()), *some.columns[1:]]
        ordered.add(pa.RecordBatch.from_arrays(columns, schema=PLACED))
    return ordered.ordered()


def _to_batch(some: Sequence[Judged]) -> pa.RecordBatch:
    columns = (
        [judged.source.place for judged in some],
        [judged.number for judged in some],
        [judged.found.text for judged in some],
        [judged.found.translator for judged in some],
        [judged.verdict.similarity for judged in some],
        [judged.verdict.is_copy for judged in some],
    )
    rows = to_batch([judged.source.row for judged in some])
    fields = list(_JUDGED)[len(SCHEMA) :]
    added = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays([*rows.columns, *added], schema=_JUDGED)


def _from_batch(batch: pa.RecordBatch) -> Iterator[Judged]:
    names = _JUDGED.names[len(SCHEMA) :]
    columns = (batch.column(name).to_pylist() for name in names)
    for row, *values in zip(to_rows(batch), *columns, strict=True):
        place, number, text, translator, similarity, is_copy = values
        verdict = Verdict(similarity=similarity, is_copy=is_copy)
        yield Judged(Source(place, row), Translation(text, translator), verdict, number)
