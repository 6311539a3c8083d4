"""Rows on disk that stages use as they use a list: a sequence of labelled pairs that holds one batch of them."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.stored.batches import BATCH_ROWS, SCHEMA, in_chunks, mentions, to_batch, to_rows
from training.data.stored.spool import Spool


class StoredRows(Sequence[LabeledPair]):
    """Rows in pieces: `sizes` says how many each has, `load` returns one as a record batch of SCHEMA.

    Iterating reads each piece once. An index reads the piece that it lies in, and the last piece read is kept: use
    indices that are near one another.
    """

    def __init__(self, sizes: Sequence[int], load: Callable[[int], pa.RecordBatch]) -> None:
        self.sizes, self.load = sizes, load
        self._ends = list(accumulate(sizes))
        self._last: tuple[int, list[LabeledPair]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[LabeledPair]:
        for batch in self.batches():
            yield from to_rows(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows as record batches of at most BATCH_ROWS."""
        for number in range(len(self._ends)):
            piece = self.load(number)
            for start in range(0, piece.num_rows, BATCH_ROWS):
                yield piece.slice(start, BATCH_ROWS)

    @overload
    def __getitem__(self, at: int) -> LabeledPair: ...
    @overload
    def __getitem__(self, at: slice) -> list[LabeledPair]: ...
    def __getitem__(self, at: int | slice) -> LabeledPair | list[LabeledPair]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        piece = bisect_right(self._ends, at)
        if self._last[0] != piece:
            self._last = (piece, to_rows(self.load(piece)))
        return self._last[1][at - self._ends[piece]]  # from the end of the piece

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def stored(rows: Iterable[LabeledPair]) -> StoredRows:
    """Return rows, written to disk in their order. MachineError if the disk is full."""
    spool = Spool(SCHEMA)
    for chunk in in_chunks(rows):
        spool.add(to_batch(chunk))
    return in_order(spool)


def on_disk(rows: Sequence[LabeledPair]) -> StoredRows:
    """Return rows as stored ones; those that are not yet are written to disk. MachineError if it is full."""
    return rows if isinstance(rows, StoredRows) else stored(rows)


def in_order(spool: Spool, bucket: int = 0) -> StoredRows:
    """Return the rows of a bucket in the order in which they were added."""
    return StoredRows(spool.sizes(bucket), lambda number: spool.batch(bucket, number))


def chained(*parts: StoredRows) -> StoredRows:
    """Return the rows of several parts, one part after the other."""
    pieces = [(part, number) for part in parts for number in range(len(part.sizes))]
    sizes = [part.sizes[number] for part, number in pieces]
    return StoredRows(sizes, lambda at: pieces[at][0].load(pieces[at][1]))


def filtered(rows: Sequence[LabeledPair], kept: NDArray[np.bool_]) -> Sequence[LabeledPair]:
    """Return the rows where `kept` [N] is true; on disk where `rows` are."""
    if not isinstance(rows, StoredRows):
        return [row for row, is_kept in zip(rows, kept.tolist(), strict=True) if is_kept]
    spool, at = Spool(SCHEMA), 0
    for batch in rows.batches():
        spool.add(batch.filter(pa.array(kept[at : at + batch.num_rows])))
        at += batch.num_rows
    return in_order(spool)


def batches_of(rows: Iterable[LabeledPair]) -> Iterator[pa.RecordBatch]:
    """Yield rows as record batches."""
    return rows.batches() if isinstance(rows, StoredRows) else map(to_batch, in_chunks(rows))


def having(rows: Iterable[LabeledPair], name: str) -> Iterator[LabeledPair]:
    """Yield the rows that have an extra whose name contains this one; few others where the rows are stored."""
    if not isinstance(rows, StoredRows):
        yield from (row for row in rows if any(name in each for each in row.extra))
        return
    for batch in rows.batches():
        found = mentions(batch, name)
        if found.any():
            yield from to_rows(batch.filter(pa.array(found)))


def candidates_of(rows: Iterable[LabeledPair]) -> Iterator[str]:
    """Yield the candidates of rows in the order of their first rows; most of those that repeat come once."""
    return (text for batch in batches_of(rows) for text in batch.column("candidate").unique().to_pylist())


def queries_of(rows: Iterable[LabeledPair]) -> Iterator[str]:
    """Yield the query of each row."""
    if isinstance(rows, StoredRows):
        return (query for batch in rows.batches() for query in batch.column("query").to_pylist())
    return (row.pair.query for row in rows)


def ids_of(rows: Iterable[LabeledPair]) -> Iterator[str]:
    """Yield the id of each row."""
    for batch in batches_of(rows):
        yield from (key.decode("utf-8", "surrogatepass") for key in batch.column("id").to_pylist())


def strata_of(rows: Iterable[LabeledPair]) -> Iterator[tuple[str, int]]:
    """Yield the language and the label of each row."""
    if not isinstance(rows, StoredRows):
        yield from ((row.pair.language, row.label) for row in rows)
        return
    for batch in rows.batches():
        yield from zip(batch.column("language").to_pylist(), batch.column("label").to_pylist(), strict=True)


def labels_of(rows: Sequence[LabeledPair]) -> NDArray[np.int8]:
    """Return the label [N] of each row."""
    return np.fromiter((label for _, label in strata_of(rows)), np.int8, len(rows))
