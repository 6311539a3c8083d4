"""Rows brought together by a key, and brought back into the order of their places."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relevance.tasks import query_key
from training.data.stored.batches import BATCH_ROWS, SCHEMA, in_chunks
from training.data.stored.rows import StoredRows
from training.data.stored.spool import Spool, bucket_of, buckets_for

PLACED = SCHEMA.append(pa.field("place", pa.int64()))
TEXT = pa.schema({"text": pa.string()})
_KEYS = pa.schema({"key": pa.binary(), "place": pa.int64()})
_KEY_BUCKETS = 64  # how many keys there will be is not known
KEYED = PLACED.append(pa.field("key", pa.string()))


class RowsByQuery:
    """Rows in buckets by the key of their query (KEYED): all rows of a query are in one bucket, by place."""

    def __init__(self, batches: Iterable[pa.RecordBatch], buckets: int) -> None:
        """Write batches of rows (SCHEMA) to buckets. MachineError if the disk is full."""
        self._spool = Spool(KEYED, buckets)
        self.rows = 0
        for batch in batches:
            keys = [query_key(query) for query in batch.column("query").to_pylist()]
            places = pa.array(np.arange(self.rows, self.rows + len(keys)))
            keyed = batch.append_column("place", places).append_column("key", pa.array(keys, pa.string()))
            self._spool.scatter(keyed, bucket_numbers(keys, buckets))
            self.rows += len(keys)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return map(self.bucket, range(self._spool.buckets))

    def bucket(self, number: int) -> pa.RecordBatch:
        """Return the rows of a bucket."""
        return self._spool.whole(number)


class RowsByPlace:
    """Brings rows that come in any order back into that of their places, each of which is below `size`."""

    def __init__(self, size: int) -> None:
        self._spool = Spool(PLACED, buckets_for(size))
        self._span = max(-(-size // self._spool.buckets), 1)

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows (PLACED). MachineError if the disk is full."""
        self._spool.scatter(batch, batch.column("place").to_numpy() // self._span)

    def ordered(self) -> StoredRows:
        """Return all rows by place."""
        spool = self._spool
        sizes = [sum(spool.sizes(bucket)) for bucket in range(spool.buckets)]
        return StoredRows(sizes, lambda bucket: spool.whole(bucket).sort_by("place").select(SCHEMA.names))


class StoredTexts(Collection[str]):
    """Texts on disk, in the order in which they were added."""

    def __init__(self) -> None:
        self._spool = Spool(TEXT)
        self._count = 0

    def add(self, texts: Sequence[str]) -> None:
        """Append texts. MachineError if the disk is full."""
        self._spool.add(pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], schema=TEXT))
        self._count += len(texts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (text for batch in self._spool.batches() for text in batch.column("text").to_pylist())

    def __contains__(self, text: object) -> bool:
        return any(text == each for each in self)


class RepeatedKeys:
    """Finds keys that occur more than once among any number of them."""

    def __init__(self) -> None:
        self._spool = Spool(_KEYS, _KEY_BUCKETS)
        self._waiting: list[str] = []
        self._seen = 0

    def add(self, key: str) -> None:
        """Add a key. MachineError if the disk is full."""
        self._waiting.append(key)
        if len(self._waiting) == BATCH_ROWS:
            self._write()

    def found(self) -> list[str]:
        """Return each key that occurred more than once, in the order of their first occurrence."""
        self._write()
        found: list[tuple[int, bytes]] = []
        for bucket in range(self._spool.buckets):
            rows = self._spool.whole(bucket)
            table = pa.table(rows.columns, names=rows.schema.names).group_by("key")
            counts = table.aggregate([("place", "min"), ("place", "count")])
            counts = counts.filter(pc.greater(counts["place_count"], 1))
            found += zip(counts["place_min"].to_pylist(), counts["key"].to_pylist(), strict=True)
        return [key.decode("utf-8", "surrogatepass") for _, key in sorted(found)]

    def _write(self) -> None:
        keys, self._waiting = self._waiting, []
        places = np.arange(self._seen, self._seen + len(keys))
        self._seen += len(keys)
        columns = [pa.array([key.encode("utf-8", "surrogatepass") for key in keys], pa.binary()), pa.array(places)]
        if keys:
            numbers = bucket_numbers(keys, self._spool.buckets)
            self._spool.scatter(pa.RecordBatch.from_arrays(columns, schema=_KEYS), numbers)


def distinct(texts: Iterable[str], size: int) -> int:
    """Return how many different texts there are among `size` ones. MachineError if the disk is full."""
    spool = Spool(TEXT, buckets_for(size))
    for chunk in in_chunks(texts):
        some = list(dict.fromkeys(chunk))
        spool.scatter(
            pa.RecordBatch.from_arrays([pa.array(some, pa.string())], schema=TEXT), bucket_numbers(some, spool.buckets)
        )
    return sum(pc.count_distinct(spool.whole(bucket).column("text")).as_py() for bucket in range(spool.buckets))


def bucket_numbers(keys: Sequence[str], buckets: int) -> np.ndarray:
    """Return the bucket [N] of each key."""
    return np.fromiter((bucket_of(key, buckets) for key in keys), np.int64, len(keys))
