"""The groups of many rows, in the order of their keys: how many rows of each stratum a group has.

Keys and places of rows lie in temporary files; in memory are some 10 bytes a group.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.stored.batches import in_chunks
from training.data.stored.buckets import bucket_numbers
from training.data.stored.spool import Spool, buckets_for

Stratum = tuple[str, int]  # language, label
Counts = tuple[tuple[Stratum, int], ...]  # rows by stratum

_ROWS = pa.schema({"key": pa.string(), "place": pa.int64(), "stratum": pa.int32()})
_KEYS = pa.schema({"key": pa.string(), "counts": pa.int32()})
_PLACES = pa.schema({"place": pa.int64(), "group": pa.int32()})
_MERGED_KEYS = 32_768  # keys in memory while buckets are merged


class Groups:
    """Groups by number. `counts[kinds[n]]` are the rows of group n by stratum."""

    def __init__(self, kinds: NDArray[np.int32], counts: list[Counts]) -> None:
        self.kinds, self.counts = kinds, counts

    def __len__(self) -> int:
        return len(self.kinds)

    def totals(self) -> Counter[Stratum]:
        """Return the rows of all groups by stratum."""
        groups = np.bincount(self.kinds, minlength=len(self.counts))
        found: Counter[Stratum] = Counter()
        for counts, times in zip(self.counts, groups.tolist(), strict=True):
            found.update({stratum: count * times for stratum, count in counts if times})
        return found

    def subset(self, kept: NDArray[np.bool_]) -> "Groups":
        """Return the groups where `kept` [G] is true, in their order."""
        return Groups(self.kinds[kept], self.counts)


class GroupTable(Groups):
    """The groups of rows; the number of a group is the rank of its key."""

    def __init__(self, rows: Iterable[tuple[str, Stratum]], size: int) -> None:
        """Take the key of its group and the stratum of each of `size` rows. MachineError if the disk is full."""
        self.size = size
        self.strata: dict[Stratum, int] = {}
        self._known: dict[Counts, int] = {}
        buckets = buckets_for(size)
        by_key = Spool(_ROWS, buckets)
        place = 0
        for chunk in in_chunks(rows):
            keys = [key for key, _ in chunk]
            strata = [self.strata.setdefault(stratum, len(self.strata)) for _, stratum in chunk]
            columns = [pa.array(keys, pa.string()), np.arange(place, place + len(chunk)), pa.array(strata, pa.int32())]
            by_key.scatter(pa.RecordBatch.from_arrays(columns, schema=_ROWS), bucket_numbers(keys, buckets))
            place += len(chunk)
        self._keys, self._places = Spool(_KEYS, buckets), Spool(_PLACES, buckets)
        for bucket in range(buckets):
            self._sort(bucket, by_key.whole(bucket))
        del by_key
        kinds, self._bucket = self._merged()
        super().__init__(kinds, list(self._known))

    def by_row(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the value [size] of each row's group, given the value [G] of each group."""
        found = np.empty(self.size, dtype=np.int8)
        for bucket in range(self._places.buckets):
            of_bucket = values[np.flatnonzero(self._bucket == bucket)]
            for batch in self._places.batches(bucket):
                found[batch.column("place").to_numpy()] = of_bucket[batch.column("group").to_numpy()]
        return found

    def _sort(self, bucket: int, rows: pa.RecordBatch) -> None:
        """Number the groups of a bucket by their keys, and keep these and the rows' numbers."""
        if not rows.num_rows:
            return
        coded = rows.column("key").dictionary_encode()
        keys = coded.dictionary.to_pylist()
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        groups = np.argsort(order)[coded.indices.to_numpy()]
        strata = list(self.strata)
        codes, times = np.unique(groups * len(strata) + rows.column("stratum").to_numpy(), return_counts=True)
        cells = zip((codes // len(strata)).tolist(), (codes % len(strata)).tolist(), times.tolist(), strict=True)
        kinds = [
            self._known.setdefault(tuple((strata[cell[1]], cell[2]) for cell in of_group), len(self._known))
            for _, of_group in groupby(cells, key=lambda cell: cell[0])
        ]
        columns = [pa.array([keys[n] for n in order], pa.string()), pa.array(kinds, pa.int32())]
        sorted_keys = pa.RecordBatch.from_arrays(columns, schema=_KEYS)
        step = max(_MERGED_KEYS // self._keys.buckets, 1)
        for start in range(0, len(keys), step):
            self._keys.add(sorted_keys.slice(start, step), bucket)
        places = [rows.column("place"), pa.array(groups.astype(np.int32))]
        self._places.add(pa.RecordBatch.from_arrays(places, schema=_PLACES), bucket)

    def _merged(self) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Return the kind of counts and the bucket of each group, in the order of all keys."""
        kinds, buckets = array("i"), array("H")
        for _, kind, bucket in heapq.merge(*map(self._sorted, range(self._keys.buckets))):
            kinds.append(kind)
            buckets.append(bucket)
        return np.frombuffer(kinds, dtype=np.int32), np.frombuffer(buckets, dtype=np.uint16)

    def _sorted(self, bucket: int) -> Iterator[tuple[str, int, int]]:
        for batch in self._keys.batches(bucket):
            for key, kind in zip(batch.column("key").to_pylist(), batch.column("counts").to_pylist(), strict=True):
                yield key, kind, bucket
