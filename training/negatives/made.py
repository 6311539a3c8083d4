"""The negatives that were made, on disk: brought into the order of their sources, under new ids."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relevance.tasks import LabeledPair, Pair
from training.data.extras import SOURCE_ID
from training.data.stored.batches import in_chunks, to_batch
from training.data.stored.buckets import PLACED, RowsByPlace
from training.data.stored.new_ids import NewIds
from training.data.stored.rows import StoredRows
from training.data.stored.spool import Spool, buckets_for
from training.negatives.candidates import CandidatePool
from training.negatives.report import SimilarityHistogram

NEGATIVE = "negative"
_MARK = b"~neg"  # a negative's id is that of its source, this, and a number

# `draw` counts draws; `place`, `id`, `query`, `language` and `kept` are those of the source, `positive` its candidate,
# `rank` its rank in its language, `attempt` what it was asked for before; `text` is the number of the query.
DRAWN = pa.schema(
    {
        "draw": pa.int64(),
        "place": pa.int64(),
        "id": pa.binary(),
        "query": pa.string(),
        "language": pa.string(),
        "kept": pa.string(),
        "positive": pa.string(),
        "rank": pa.int32(),
        "attempt": pa.int32(),
        "text": pa.int32(),
        "candidate": pa.int32(),
        "strategy": pa.string(),
        "search": pa.string(),
        "similarity": pa.float64(),
        "positive_similarity": pa.float64(),
    }
)


class MadeNegatives:
    """Negatives (DRAWN) in buckets by the id of their source, with the ids of rows that theirs must not repeat."""

    def __init__(self, rows: Sequence[LabeledPair], pool: CandidatePool, wanted: int) -> None:
        """Take the rows that negatives are made of, and about how many are wanted. MachineError if the disk is full."""
        self.searches: Counter[str] = Counter()
        self._rows, self._pool = len(rows), pool
        self._made = Spool(DRAWN, buckets_for(wanted))
        self._ids = NewIds(rows, _MARK, self._made.buckets)
        self._least, self._greatest = math.inf, -math.inf  # similarity

    def add(self, drawn: pa.RecordBatch) -> None:
        """Add negatives. MachineError if the disk is full."""
        if drawn.num_rows:
            self.searches.update(drawn.column("search").to_pylist())
            for name in ("similarity", "positive_similarity"):
                ends = pc.min_max(drawn.column(name))
                self._least = min(self._least, ends["min"].as_py())
                self._greatest = max(self._greatest, ends["max"].as_py())
            self._made.scatter(drawn, self._ids.bucket_of(drawn.column("id").to_pylist()))

    def finished(self) -> tuple[StoredRows, SimilarityHistogram]:
        """Return the rows, by the place of their source, and the histogram of similarities."""
        ordered, histogram = RowsByPlace(self._rows), SimilarityHistogram.between(self._least, self._greatest)
        for bucket in range(self._made.buckets):
            drawn = self._made.whole(bucket).sort_by([("place", "ascending"), ("draw", "ascending")])
            _, first = np.unique(drawn.column("place").to_numpy(), return_index=True)
            own = drawn.column("positive_similarity").to_numpy()[first]
            histogram = histogram.with_more(drawn.column("similarity").to_numpy(), own)
            places = drawn.column("place")
            start = 0
            for rows in in_chunks(self._named(drawn, bucket)):
                batch = to_batch(rows).append_column("place", places.slice(start, len(rows)))
                ordered.add(batch.select(PLACED.names))
                start += len(rows)
        return ordered.ordered(), histogram

    def _named(self, drawn: pa.RecordBatch, bucket: int) -> Iterator[LabeledPair]:
        """Yield the rows of negatives under ids that no row has."""
        sources = drawn.column("id").to_pylist()
        names = self._ids.of_bucket(bucket, sources, lambda source, n: source + _MARK + str(n).encode())
        for name, row in zip(names, negative_rows(drawn, self._pool, sources), strict=True):
            yield LabeledPair(row.pair, row.label, name.decode("utf-8", "surrogatepass"), row.extra)


def negative_rows(drawn: pa.RecordBatch, pool: CandidatePool, sources: Sequence[bytes]) -> Iterator[LabeledPair]:
    """Yield negatives as rows that have the ids of their sources."""
    names = ("query", "language", "kept", "candidate", "strategy", "similarity")
    for source, *values in zip(sources, *(drawn.column(name).to_pylist() for name in names), strict=True):
        query, language, kept, candidate, strategy, similarity = values
        name = source.decode("utf-8", "surrogatepass")
        extra = json.loads(kept) if kept else {}
        extra |= {"source": NEGATIVE, SOURCE_ID: name, "strategy": strategy, "similarity": round(similarity, 4)}
        yield LabeledPair(Pair(query, pool.texts[candidate], language), 0, name, extra)
