"""Ids of rows that are made of others: that of the source and a mark, and none that a row has already."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.stored.rows import batches_of
from training.data.stored.spool import Spool

_IDS = pa.schema({"id": pa.binary()})


class NewIds:
    """Gives ids that begin with that of a source and a mark. Sources are in buckets, and so are the ids of rows."""

    def __init__(self, rows: Sequence[LabeledPair], mark: bytes, buckets: int) -> None:
        """Note the ids of rows that have the mark. MachineError if the disk is full."""
        self._taken = Spool(_IDS, buckets)
        for batch in batches_of(rows):
            ids = batch.column("id").filter(pc.match_substring(batch.column("id"), mark))
            if len(ids):
                numbers = self.bucket_of([name.rpartition(mark)[0] for name in ids.to_pylist()])
                self._taken.scatter(pa.RecordBatch.from_arrays([ids], schema=_IDS), numbers)

    def bucket_of(self, sources: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the bucket [N] of each source."""
        return np.array([zlib.crc32(source) % self._taken.buckets for source in sources], dtype=np.int64)

    def of_bucket(self, bucket: int, sources: Sequence[bytes], named: Callable[[bytes, int], bytes]) -> Iterator[bytes]:
        """Yield an id for each made row, given all sources of a bucket in order.

        `named` gives the n-th id of a source, from 1; the first one that is free is taken.
        """
        taken = set(self._taken.whole(bucket).column("id").to_pylist())
        last: Counter[bytes] = Counter()
        for source in sources:
            last[source] += 1
            while (name := named(source, last[source])) in taken:
                last[source] += 1
            yield name
