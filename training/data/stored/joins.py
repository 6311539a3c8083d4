"""Keys and rows found by other keys: both sides lie in buckets by a hash of the key, and one bucket is in memory."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.stored.batches import in_chunks
from training.data.stored.buckets import RowsByPlace, bucket_numbers
from training.data.stored.rows import StoredRows, batches_of, ids_of
from training.data.stored.spool import Spool, buckets_for

_KEYS = pa.schema({"key": pa.binary(), "place": pa.int32()})


def numbered(keys: Iterable[str]) -> tuple[NDArray[np.int32], pa.Array]:
    """Return the number [N] of each key, by first occurrence, and the different keys as text, by number.

    In memory are the texts of all keys, as Arrow has them, and no Python objects.
    """
    texts = pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in in_chunks(keys)], pa.large_string())
    coded = texts.dictionary_encode().combine_chunks()
    return coded.indices.to_numpy(), coded.dictionary


def matched(keys: Iterable[str], size: int, wanted: Iterable[str]) -> NDArray[np.int32]:
    """Return for each of `size` keys its place among `wanted`, the first of several, and -1 where it is not there.

    In memory are 4 bytes a key and one bucket. MachineError if the disk is full.
    """
    buckets = buckets_for(size)
    ours, theirs = _bucketed(keys, buckets), _bucketed(wanted, buckets)
    found = np.full(size, -1, dtype=np.int32)
    for bucket in range(buckets):
        mine, other = ours.whole(bucket), theirs.whole(bucket)
        at = pc.index_in(mine.column("key"), other.column("key"))
        places = pc.fill_null(other.column("place").take(at), -1)
        found[mine.column("place").to_numpy()] = places.to_numpy(zero_copy_only=False)
    return found


def with_ids(rows: Sequence[LabeledPair], names: Iterable[str]) -> StoredRows:
    """Return the rows with these ids, in the order of the ids; ids that no row has are passed over.

    Memory and errors are those of `matched`.
    """
    places = matched(ids_of(rows), len(rows), names)
    found = RowsByPlace(int(places.max(initial=-1)) + 1)
    start = 0
    for batch in batches_of(rows):
        own = places[start : start + batch.num_rows]
        some = batch.filter(pa.array(own >= 0))
        found.add(some.append_column("place", pa.array(own[own >= 0].astype(np.int64))))
        start += batch.num_rows
    return found.ordered()


def _bucketed(keys: Iterable[str], buckets: int) -> Spool:
    spool, start = Spool(_KEYS, buckets), 0
    for chunk in in_chunks(keys):
        names = pa.array([key.encode("utf-8", "surrogatepass") for key in chunk], pa.binary())
        places = pa.array(np.arange(start, start + len(chunk), dtype=np.int32))
        spool.scatter(pa.RecordBatch.from_arrays([names, places], schema=_KEYS), bucket_numbers(chunk, buckets))
        start += len(chunk)
    return spool
