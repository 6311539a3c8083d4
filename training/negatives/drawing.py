"""Draws the negatives of the rows of one piece (training.negatives.grouped): as many as each row is asked for."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, Pair, query_key
from training.data.stored.batches import in_chunks
from training.negatives.candidates import CandidatePool, KnownPairs
from training.negatives.made import DRAWN
from training.negatives.options import NegativeOptions
from training.negatives.quota import Quota
from training.negatives.sampler import Negative, Sampler, SampleRequest
from training.negatives.search import CandidateSearch

EARLIER = pa.schema({"place": pa.int64(), "candidate": pa.int32(), "attempt": pa.int32()})
_BLOCK_ROWS = 8192  # whose similarities are computed together
_OF_SOURCE = ("place", "id", "query", "language", "kept", "rank", "text")  # columns that a negative has of its source


def asked_of(piece: pa.RecordBatch, plans: Mapping[str, NDArray[np.unsignedinteger]]) -> NDArray[np.int64]:
    """Return how many negatives each row [N] of a piece is asked for, by the plans [P] of languages."""
    asked = np.zeros(piece.num_rows, dtype=np.int64)
    ranks, languages = piece.column("rank").to_numpy(), piece.column("language").dictionary_encode()
    codes = languages.indices.to_numpy()
    for code, language in enumerate(languages.dictionary.to_pylist()):
        if language in plans:
            at = np.flatnonzero((codes == code) & (ranks >= 0))
            asked[at] = plans[language][ranks[at]]
    return asked


class PieceDrawing:
    """Draws for the rows of one piece; only groups with a row that is asked become Python objects."""

    def __init__(
        self,
        piece: pa.RecordBatch,
        asked: NDArray[np.int64],
        earlier: pa.RecordBatch,
        pool: CandidatePool,
        options: NegativeOptions,
    ) -> None:
        """Take a piece, what its rows [N] are asked for, and what was drawn for them before (EARLIER)."""
        groups = piece.column("group").to_numpy()
        needed = np.isin(groups, np.unique(groups[asked > 0]))
        self._piece, self._asked = piece.filter(pa.array(needed)), asked[needed]
        columns = {name: self._piece.column(name).to_pylist() for name in ("query", "number", "label", "group")}
        known = KnownPairs(list(map(query_key, columns["query"])), *(columns[n] for n in ("number", "label", "group")))
        self._add_earlier(known, earlier)
        self._numbers, self._texts = columns["number"], self._piece.column("text").to_pylist()
        self._sampler = Sampler(self._sources(), pool, known, options)

    def draw(self, quotas: Mapping[str, Quota], search: CandidateSearch, first: int) -> pa.RecordBatch:
        """Return the negatives (DRAWN) that were drawn; the first of them is draw `first`."""
        picks: list[Negative] = []
        attempts: list[int] = []
        ranks, texts = (self._piece.column(name).to_numpy() for name in ("rank", "text"))
        for language in sorted(self._piece.column("language").unique().to_pylist()):
            is_asked = pc.equal(self._piece.column("language"), language).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(is_asked & (self._asked > 0))
            # Rows of one query are searched for once.
            for block in in_chunks(rows[np.lexsort((ranks[rows], texts[rows]))].tolist(), _BLOCK_ROWS):
                before = {row: int(quotas[language].asked[ranks[row]]) for row in block}
                some = self._block(block, before, quotas[language], search)
                found = Counter(pick.row for pick in some)
                for row in block:
                    quotas[language].count(int(ranks[row]), int(self._asked[row]), found[row])
                picks += some
                attempts += [before[pick.row] for pick in some]
        return self._batch(picks, attempts, first)

    def _block(
        self, block: list[int], attempts: Mapping[int, int], quota: Quota, search: CandidateSearch
    ) -> list[Negative]:
        own = search.similarity([self._texts[row] for row in block], [self._numbers[row] for row in block])
        requests: defaultdict[str, list[SampleRequest]] = defaultdict(list)
        for row, similarity in zip(block, own.tolist(), strict=True):
            for request in self._sampler.requests(row, int(self._asked[row]), attempts[row], similarity):
                requests[request.strategy].append(request)
        picks: list[Negative] = []
        for strategy in sorted(requests):
            picks += self._of_strategy(strategy, requests[strategy], quota, search)
        return picks

    def _of_strategy(
        self, strategy: str, requests: list[SampleRequest], quota: Quota, search: CandidateSearch
    ) -> list[Negative]:
        picks: list[Negative] = []
        for name in search.searches(strategy):
            left: list[SampleRequest] = []
            shortlists = search.shortlists(name, [(self._texts[one.row], one.attempt) for one in requests])
            for request, shortlist in zip(requests, shortlists, strict=True):
                drawn = self._sampler.draw(request, shortlist, quota.rejected)
                picks += drawn
                if len(drawn) < request.count:
                    left.append(replace(request, count=request.count - len(drawn)))
            requests = left
            if not requests:
                break
        return picks

    def _sources(self) -> dict[int, LabeledPair]:
        """Return the rows that are asked, by their index."""
        at = np.flatnonzero(self._asked)
        some = self._piece.take(pa.array(at))
        columns = (some.column(name).to_pylist() for name in ("query", "candidate", "language", "id"))
        return {
            row: LabeledPair(Pair(query, candidate, language), 1, name.decode("utf-8", "surrogatepass"))
            for row, query, candidate, language, name in zip(at.tolist(), *columns, strict=True)
        }

    def _add_earlier(self, known: KnownPairs, earlier: pa.RecordBatch) -> None:
        row_of = {place: row for row, place in enumerate(self._piece.column("place").to_pylist())}
        columns = (earlier.column(name).to_pylist() for name in EARLIER.names)
        for place, candidate, attempt in zip(*columns, strict=True):
            if place in row_of:
                known.add_drawn(row_of[place], candidate, attempt)

    def _batch(self, picks: list[Negative], attempts: list[int], first: int) -> pa.RecordBatch:
        rows = self._piece.take(pa.array([pick.row for pick in picks], pa.int64()))
        columns = {name: rows.column(name) for name in _OF_SOURCE} | {"positive": rows.column("candidate")}
        columns |= {"draw": pa.array(np.arange(first, first + len(picks))), "attempt": pa.array(attempts, pa.int32())}
        for name in ("candidate", "strategy", "search", "similarity", "positive_similarity"):
            columns[name] = pa.array([getattr(pick, name) for pick in picks], DRAWN.field(name).type)
        return pa.RecordBatch.from_arrays([columns[name] for name in DRAWN.names], schema=DRAWN)
