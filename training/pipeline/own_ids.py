"""Ids that are unique over several files of rows, so that made rows name their source without doubt.

Ids are compared in buckets by their stem, which is `7` of `7@2` and of `7#3`: new names of an id have its stem, so they
clash with ids of their bucket alone.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids
from training.data.stored.batches import mentions, packed, to_rows
from training.data.stored.buckets import bucket_numbers
from training.data.stored.rows import StoredRows, chained, on_disk
from training.data.stored.spool import Spool, buckets_for

_IDS = pa.schema({"id": pa.binary(), "file": pa.int32(), "place": pa.int64()})  # place -1: of a row that was merged
_NEW_PARTS = re.compile(r"(?:[@#]\d+)+\Z")


def with_own_ids(files: Sequence[Sequence[LabeledPair]]) -> tuple[StoredRows, int]:
    """Return the rows of several files under unique ids, and how many ids changed.

    Files often number their rows from 1 each. The id of a row in the Nth file becomes `ID@N` where an earlier file has
    the id too, that of a repeated one in a file `ID#2` and so on; `source_id` and the ids of merged rows follow within
    their file. In memory are the new ids, some 30 bytes each, and the ids that extras name. MachineError if the disk
    is full.
    """
    parts = [on_disk(file) for file in files]
    ids, clashing = _Ids(parts), [set[str]() for _ in parts]
    places, names = [np.zeros(0, dtype=np.int64)], [pa.array([], pa.binary())]
    for bucket in range(ids.spool.buckets):
        for number, clashes, renamed in _of_bucket(ids.spool.whole(bucket)):
            clashing[number] |= clashes & ids.named[number]
            places.append(np.array(list(renamed), dtype=np.int64))
            names.append(pa.array(map(_key, renamed.values()), pa.binary()))
    return _Renaming(np.concatenate(places), pa.concat_arrays(names), clashing).rows(parts), sum(map(len, places))


class _Renaming:
    """New ids of rows by their places among all rows, and for each file the ids in extras that are to be renamed."""

    def __init__(self, places: NDArray[np.int64], names: pa.Array, clashing: list[set[str]]) -> None:
        order = np.argsort(places)
        self._places, self._names, self._clashing = places[order], names.take(pa.array(order)), clashing

    def rows(self, parts: Sequence[StoredRows]) -> StoredRows:
        """Return the rows of all files; each piece is renamed when it is read."""
        rows = chained(*parts)
        if not len(self._places) and not any(self._clashing):
            return rows
        starts, ends = list(accumulate(rows.sizes, initial=0)), list(accumulate(map(len, parts)))

        def load(piece: int) -> pa.RecordBatch:
            return self._renamed(rows.load(piece), starts[piece], bisect_right(ends, starts[piece]))

        return StoredRows(rows.sizes, load)

    def _renamed(self, batch: pa.RecordBatch, start: int, file: int) -> pa.RecordBatch:
        first, last = np.searchsorted(self._places, [start, start + batch.num_rows]).tolist()
        is_new = np.zeros(batch.num_rows, dtype=bool)
        is_new[self._places[first:last] - start] = True
        batch = _replaced(batch, "id", is_new, self._names[first:last])
        if not (clashing := self._clashing[file]):
            return batch
        naming = _naming(batch)
        extras = [packed(_renamed_extra(row, clashing, file + 1)) for row in to_rows(batch.filter(pa.array(naming)))]
        return _replaced(batch, "extra", naming, pa.array(extras, pa.string()))


class _Ids:
    """The ids of all rows and of the rows merged into them, in buckets; `named` are those in the extras of a file."""

    def __init__(self, files: Sequence[StoredRows]) -> None:
        self.spool = Spool(_IDS, buckets_for(sum(map(len, files))))
        self.named: list[set[str]] = [set() for _ in files]
        place = 0
        for number, file in enumerate(files):
            for batch in file.batches():
                ids = [_text(key) for key in batch.column("id").to_pylist()]
                self._add(ids, number, np.arange(place, place + len(ids)))
                place += len(ids)
                for row in to_rows(batch.filter(pa.array(_naming(batch)))):
                    merged = own_ids(row)[1:]
                    self._add(merged, number, np.full(len(merged), -1))
                    self.named[number].update(merged, source_ids(row))

    def _add(self, ids: list[str], number: int, places: NDArray[np.int64]) -> None:
        if ids:
            columns = [pa.array(map(_key, ids), pa.binary()), np.full(len(ids), number, dtype=np.int32), places]
            stems = [_NEW_PARTS.sub("", name) if "@" in name or "#" in name else name for name in ids]
            self.spool.scatter(
                pa.RecordBatch.from_arrays([pa.array(each) for each in columns], schema=_IDS),
                bucket_numbers(stems, self.spool.buckets),
            )


def _of_bucket(ids: pa.RecordBatch) -> Iterator[tuple[int, set[str], dict[int, str]]]:
    """Yield the number of each file, from 0, its ids that an earlier file has, and the new ids of rows by place."""
    if pc.count_distinct(ids.column("id")).as_py() == ids.num_rows:
        return
    taken: set[str] = set()
    names = [_text(key) for key in ids.column("id").to_pylist()]
    rows = zip(ids.column("file").to_pylist(), names, ids.column("place").to_pylist(), strict=True)
    for number, of_file in groupby(rows, key=itemgetter(0)):
        members = list(of_file)
        clashes = {name for _, name, _ in members} & taken
        renamed, merged = {}, set()
        for _, name, place in members:
            once, count = f"{name}@{number + 1}" if name in clashes else name, 1
            if place < 0:
                merged.add(once)
                continue
            new = once
            while new in taken:
                count += 1
                new = f"{once}#{count}"
            taken.add(new)
            if new != name:
                renamed[place] = new
        taken |= merged
        yield number, clashes, renamed


def _renamed_extra(row: LabeledPair, clashing: set[str], number: int) -> dict[str, Any]:
    """Return a row's extras with the clashing ids in them renamed as rows of the Nth file are."""
    names = [*own_ids(row)[1:], *source_ids(row)]
    if not clashing.intersection(names):
        return row.extra

    def new(ids: list[str]) -> list[str]:
        return [f"{name}@{number}" if name in clashing else name for name in ids]

    sources = new(source_ids(row))
    found = {SOURCE_ID: sources[:1], MERGED_SOURCE_IDS: sources[1:], MERGED_IDS: new(own_ids(row)[1:])}
    extra = {name: value for name, value in row.extra.items() if name not in found}
    return extra | {name: ids[0] if name == SOURCE_ID else ids for name, ids in found.items() if ids}


def _replaced(batch: pa.RecordBatch, name: str, mask: NDArray[np.bool_], values: pa.Array) -> pa.RecordBatch:
    """Return rows with `values` [M] in one column where the mask [N] is true."""
    if not len(values):
        return batch
    column = pc.replace_with_mask(batch.column(name), pa.array(mask), values)
    return batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), column)


def _naming(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return True [N] for rows whose extras may name other rows."""
    return mentions(batch, SOURCE_ID) | mentions(batch, MERGED_IDS)


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
