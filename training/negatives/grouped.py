"""Rows by group, in pieces of whole groups: drawing for a query needs no other rows than those of its group.

Pieces are in the order of the groups' hashes, so that neither they nor the numbers of queries depend on the order of
groups in the rows or on the number of buckets by which they are sorted.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.stored.batches import mentions, packed, to_rows
from training.data.stored.buckets import StoredTexts
from training.data.stored.rows import batches_of
from training.data.stored.spool import Spool, buckets_for
from training.negatives.candidates import CandidatePool
from training.negatives.near_queries import NearQueries
from training.negatives.quota import Ranks

_KEPT = "source_language"  # of a positive row's extras in its negatives: the others may describe the positive
PIECE_ROWS = 16_384  # at least, but for the last piece
_KEPT_TEXTS = 1 << 16
# `number` is that of the candidate, `rank` that of a positive row in its language (-1: negative), `kept` JSON.
_ROWS = {
    "place": pa.int64(),
    "id": pa.binary(),
    "language": pa.string(),
    "query": pa.string(),
    "candidate": pa.string(),
    "number": pa.int32(),
    "label": pa.int8(),
    "rank": pa.int32(),
    "kept": pa.string(),
}
_HASHED = pa.schema(_ROWS | {"hash": pa.uint32(), "key": pa.string()})
PIECE = pa.schema(_ROWS | {"group": pa.int32(), "text": pa.int32()})  # of its piece; of its query (-1: negative)


class GroupedRows:
    """Rows (PIECE) on disk, in pieces of whole groups; `texts` are the different queries of positives, by number.

    Two groups that have a query text in common have a number each for it.
    """

    def __init__(
        self,
        rows: Sequence[LabeledPair],
        groups: Iterable[str],
        pool: CandidatePool,
        ranks: dict[str, Ranks],
        query_text: Callable[[str], str],
    ) -> None:
        """Take rows with their groups and the ranks of the positive ones of each language, in the order of rows.

        `query_text` is what an encoder reads of a query. MachineError if the disk is full.
        """
        self.texts = StoredTexts()
        self._pool, self._ranks = pool, ranks
        self._used = dict.fromkeys(ranks, 0)
        self._query_text = functools.lru_cache(maxsize=_KEPT_TEXTS)(query_text)
        self._pieces = Spool(PIECE)
        by_hash = Spool(_HASHED, buckets_for(len(rows)))
        names, place = iter(groups), 0
        for batch in batches_of(rows):
            keys = [next(names) for _ in range(batch.num_rows)]
            hashed = self._hashed(batch, keys, place)
            hashes = hashed.column("hash").to_numpy().astype(np.int64)
            by_hash.scatter(hashed, (hashes * by_hash.buckets) >> 32)
            place += batch.num_rows
        self._ranks = {}
        for piece in _whole_groups(by_hash):
            self._pieces.add(self._numbered(piece))

    def __len__(self) -> int:
        return len(self._pieces.sizes(0))

    def piece(self, number: int) -> pa.RecordBatch:
        """Return a piece."""
        return self._pieces.batch(0, number)

    def note_positives(self, near: NearQueries) -> None:
        """Tell which queries each candidate is positive for."""
        for piece in self._pieces.batches():
            some = piece.filter(pc.equal(piece.column("label"), 1))
            numbers, texts = some.column("number").to_numpy(), some.column("text").to_numpy()
            _, at = np.unique(texts.astype(np.int64) << 32 | numbers, return_index=True)
            near.add(numbers[at], texts[at], some.column("query").take(pa.array(at)).to_pylist())

    def _hashed(self, batch: pa.RecordBatch, keys: list[str], place: int) -> pa.RecordBatch:
        candidates = batch.column("candidate").dictionary_encode()
        numbers = np.array([self._pool.number(text) for text in candidates.dictionary.to_pylist()], dtype=np.int32)
        hashes = [zlib.crc32(key.encode("utf-8", "surrogatepass")) for key in keys]
        columns = {name: batch.column(name) for name in ("id", "language", "query", "candidate", "label")}
        columns |= {
            "place": pa.array(np.arange(place, place + len(keys))),
            "number": pa.array(numbers[candidates.indices.to_numpy()]),
            "rank": pa.array(self._ranks_of(batch)),
            "kept": _kept(batch),
            "hash": pa.array(hashes, pa.uint32()),
            "key": pa.array(keys, pa.string()),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in _HASHED.names], schema=_HASHED)

    def _ranks_of(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        found = np.full(batch.num_rows, -1, dtype=np.int32)
        languages = batch.column("language").dictionary_encode()
        is_positive, codes = batch.column("label").to_numpy() == 1, languages.indices.to_numpy()
        for code, language in enumerate(languages.dictionary.to_pylist()):
            at = np.flatnonzero(is_positive & (codes == code))
            if at.size:
                start = self._used[language]
                found[at] = self._ranks[language][start : start + len(at)]
                self._used[language] += len(at)
        return found

    def _numbered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return a piece, and add the queries of its positive rows to `texts`."""
        groups = rows.column("key").dictionary_encode().indices
        numbers: dict[tuple[int, str], int] = {}
        found, first = np.full(rows.num_rows, -1, dtype=np.int32), len(self.texts)
        at = np.flatnonzero(rows.column("label").to_numpy() == 1)
        queries = rows.column("query").take(pa.array(at)).to_pylist()
        for row, group, query in zip(at.tolist(), groups.to_numpy()[at].tolist(), queries, strict=True):
            found[row] = numbers.setdefault((group, self._query_text(query)), first + len(numbers))
        if numbers:
            self.texts.add([text for _, text in numbers])
        columns = [rows.column(name) for name in _ROWS]
        return pa.RecordBatch.from_arrays([*columns, groups.cast(pa.int32()), pa.array(found)], schema=PIECE)


def _whole_groups(by_hash: Spool) -> Iterator[pa.RecordBatch]:
    """Yield rows sorted by group, in batches that end where a group ends."""
    left = pa.RecordBatch.from_pylist([], _HASHED)
    for bucket in range(by_hash.buckets):
        some = by_hash.whole(bucket).sort_by([(name, "ascending") for name in ("hash", "key", "place")])
        some = pa.concat_batches([left, some])
        keys = some.column("key")
        ends = np.flatnonzero(pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)) + 1
        ends, start = np.append(ends, some.num_rows), 0
        while some.num_rows - start >= PIECE_ROWS:
            end = int(ends[np.searchsorted(ends, start + PIECE_ROWS)])
            yield some.slice(start, end - start)
            start = end
        left = some.slice(start)
    if left.num_rows:
        yield left


def _kept(batch: pa.RecordBatch) -> pa.StringArray:
    """Return, as JSON, the extras that a negative keeps of each positive row [N]; null where there are none."""
    kept: list[str | None] = [None] * batch.num_rows
    some = np.flatnonzero(mentions(batch, _KEPT) & (batch.column("label").to_numpy() == 1))
    for at, row in zip(some.tolist(), to_rows(batch.take(pa.array(some))), strict=True):
        kept[at] = packed({name: row.extra[name] for name in (_KEPT,) if name in row.extra})
    return pa.array(kept, pa.string())
