"""Samples of texts of any number, the same in whatever order the texts come."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa

from training.data.stored.batches import in_chunks
from training.data.stored.buckets import bucket_numbers
from training.data.stored.spool import Spool

_TEXTS = pa.schema({"kind": pa.string(), "text": pa.string()})
_BUCKETS = 64  # how many texts there will be is not known
_PIECE_ROWS = 512  # of a bucket in memory while buckets are merged


def spread_samples(texts: Iterable[tuple[str, str]], most: int) -> dict[str, list[str]]:
    """Return for each kind, sorted, at most `most` of its different texts, evenly spread over their order.

    `texts` are kinds and texts; one bucket of them is in memory. MachineError if the disk is full.
    """
    given = Spool(_TEXTS, _BUCKETS)
    for chunk in in_chunks(texts):
        kinds, names = zip(*dict.fromkeys(chunk), strict=True)
        batch = pa.RecordBatch.from_arrays([pa.array(kinds, pa.string()), pa.array(names, pa.string())], schema=_TEXTS)
        given.scatter(batch, bucket_numbers(names, _BUCKETS))
    ordered, counts = Spool(_TEXTS, _BUCKETS), Counter[str]()
    for bucket in range(_BUCKETS):
        whole = given.whole(bucket)
        table = pa.table(whole.columns, names=_TEXTS.names).group_by(_TEXTS.names).aggregate([])
        counts.update(table["kind"].to_pylist())
        for batch in table.sort_by([(name, "ascending") for name in _TEXTS.names]).to_batches(_PIECE_ROWS):
            ordered.add(batch.select(_TEXTS.names), bucket)
    wanted = {
        kind: {int(n * max(count / most, 1.0)) for n in range(min(most, count))} for kind, count in counts.items()
    }
    found: dict[str, list[str]] = {kind: [] for kind in sorted(counts)}
    seen: Counter[str] = Counter()
    for kind, text in heapq.merge(*(_pairs(ordered, bucket) for bucket in range(_BUCKETS))):
        if seen[kind] in wanted[kind]:
            found[kind].append(text)
        seen[kind] += 1
    return found


def _pairs(spool: Spool, bucket: int) -> Iterator[tuple[str, str]]:
    for batch in spool.batches(bucket):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
