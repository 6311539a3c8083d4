"""Record batches outside of memory, in numbered buckets of one temporary file.

A bucket is what a stage holds in memory at once. Rows that have to meet, as all rows of a query, go to one bucket by a
hash (Grace hash partitioning: Kitsuregawa, Tanaka and Moto-oka, 1983). So memory does not grow with the rows, and time
grows linearly.

The file has no name and is gone with the object. It begins in memory; beyond 256 KiB it lies in the folder for
temporary files (the environment's TMPDIR).
"""

import tempfile
import weakref
import zlib
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.errors import MachineError

if TYPE_CHECKING:
    from typing import BinaryIO

BUCKET_ROWS = 32_768  # a few tens of MiB as Python objects
MOST_BUCKETS = 512  # more would make their pieces too small to be read fast
_PIECE_ROWS = 256  # on average, that are written to a bucket at once, with up to 128 buckets
_IN_MEMORY = 2**18


def buckets_for(rows: int) -> int:
    """Return how many buckets keep each of so many rows small enough."""
    return min(max(-(-rows // BUCKET_ROWS), 1), MOST_BUCKETS)


def bucket_of(key: str, buckets: int) -> int:
    """Return the bucket of a key."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % buckets


class Spool:
    """Record batches of one schema; each lies in a bucket, in the order in which it was added."""

    def __init__(self, schema: pa.Schema, buckets: int = 1) -> None:
        self.schema = schema
        self._file = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._waiting: list[tuple[pa.RecordBatch, NDArray[np.integer]]] = []
        self._pieces = [array("q") for _ in range(buckets)]  # offset, bytes and rows of each

    @property
    def buckets(self) -> int:
        """The number of buckets."""
        return len(self._pieces)

    def sizes(self, bucket: int) -> list[int]:
        """Return the rows of each batch of a bucket."""
        self._settle()
        return self._pieces[bucket][2::3].tolist()

    def add(self, batch: pa.RecordBatch, bucket: int = 0) -> None:
        """Append a batch to a bucket. MachineError if the disk is full."""
        if batch.num_rows == 0:
            return
        content = batch.serialize()
        try:
            self._file.seek(self._end)
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise MachineError(
                f"{tempfile.gettempdir()}: no room for rows outside of memory ({error.strerror}, after "
                f"{self._end / 1e6:,.1f} MB); expected some 600 bytes a row of a stage, more for long texts, "
                "or a TMPDIR that has them"
            ) from None
        self._pieces[bucket].extend((self._end, content.size, batch.num_rows))
        self._end += content.size

    def scatter(self, batch: pa.RecordBatch, numbers: NDArray[np.integer]) -> None:
        """Append each row of a batch to the bucket beside it [N], in their order; MachineError as `add`.

        Rows wait in memory until there are enough for every bucket, since many small pieces would take long, but no
        more than BUCKET_ROWS.
        """
        if self.buckets == 1:
            self.add(batch)
            return
        self._waiting.append((batch, numbers))
        if sum(len(each) for _, each in self._waiting) >= min(_PIECE_ROWS * self.buckets, BUCKET_ROWS):
            self._settle()

    def _settle(self) -> None:
        """Write the rows that wait."""
        if not self._waiting:
            return
        batches, parts = zip(*self._waiting, strict=True)
        self._waiting = []
        numbers = np.concatenate(parts)
        order = np.argsort(numbers, kind="stable")
        ordered = pa.concat_batches(batches).take(pa.array(order))
        counts = np.bincount(numbers, minlength=self.buckets)
        ends = np.cumsum(counts)
        for bucket in np.flatnonzero(counts).tolist():
            self.add(ordered.slice(int(ends[bucket] - counts[bucket]), int(counts[bucket])), bucket)

    def batch(self, bucket: int, number: int) -> pa.RecordBatch:
        """Return one batch of a bucket."""
        self._settle()
        offset, size = self._pieces[bucket][3 * number : 3 * number + 2]
        self._file.seek(offset)
        return pa.ipc.read_record_batch(pa.py_buffer(self._file.read(size)), self.schema)

    def batches(self, bucket: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a bucket."""
        self._settle()
        return (self.batch(bucket, number) for number in range(len(self._pieces[bucket]) // 3))

    def whole(self, bucket: int) -> pa.RecordBatch:
        """Return all rows of a bucket as one batch. MachineError for more than 2 GiB of one column's text."""
        table = pa.Table.from_batches(self.batches(bucket), self.schema).combine_chunks()
        found = table.to_batches()
        if len(found) > 1:
            raise MachineError(
                f"bucket {bucket}: {len(table):,} rows have over 2 GiB of text in a column; expected less"
            )
        return found[0] if found else pa.RecordBatch.from_pylist([], self.schema)
