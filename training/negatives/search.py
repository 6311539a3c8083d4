"""Which candidates a query's negatives are drawn from, and how near each is to the query."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.data.stored.batches import in_chunks
from training.embedding.candidate_vectors import Vectors
from training.embedding.nearest import NearestIndex
from training.negatives.options import NegativeOptions

SearchName = Literal["exact", "sample", "index"]

# `random` and `easy` sample this many candidates if there are more; quantiles are taken over the sample.
SAMPLE_SIZE = 8192

_BLOCK_CELLS = 1 << 24  # similarities held at once: 64 MiB
_MOST_BLOCK_QUERIES = 1024
_SAMPLE_QUERIES = 1024  # that share a sample


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Candidates by number [M], in ascending order, with their cosines to one query, float32 [M].

    Those of the search `index` are the nearest; those of the others stand for all candidates.
    """

    search: SearchName
    candidates: NDArray[np.int64]
    similarities: NDArray[np.float32]


class CandidateSearch:
    """Searches `candidates` for `queries`, both by number.

    `random` and `easy` draw from a sample where there are more than SAMPLE_SIZE candidates: queries whose numbers are
    near share one sample, the next ones get another, until every candidate was in one, and a query that is asked for
    again gets the next one. `hard` compares with
    all candidates up to `exact_up_to`; above, with the `nearest` by an index, then with a sample.
    """

    def __init__(self, queries: Vectors, candidates: Vectors, options: NegativeOptions) -> None:
        """Raise MachineError if an index is needed and its package is missing."""
        self._queries, self._candidates = queries, candidates
        count = len(candidates)
        wants_hard = options.strategy in ("hard", "mixed")
        self._exact_hard = count <= options.exact_up_to
        self._numbers = np.arange(count)
        self._order = np.random.default_rng(options.seed).permutation(count)  # of the samples
        whole = count <= SAMPLE_SIZE or (wants_hard and self._exact_hard)
        self._matrix = candidates.take(slice(None)) if whole else None
        widest = max(SAMPLE_SIZE, 0 if self._matrix is None else count)
        self._block_queries = min(max(_BLOCK_CELLS // widest, 1), _MOST_BLOCK_QUERIES)
        self._index = NearestIndex(candidates, options.nearest) if wants_hard and not self._exact_hard else None

    def searches(self, strategy: str) -> tuple[SearchName, ...]:
        """Return the names of the searches for a strategy; the second is used if the first finds too few."""
        fewer: SearchName = "exact" if len(self._candidates) <= SAMPLE_SIZE else "sample"
        if strategy != "hard":
            return (fewer,)
        return ("exact",) if self._exact_hard else ("index", fewer)

    def similarity(self, queries: Sequence[int], candidates: Sequence[int]) -> NDArray[np.float32]:
        """Return the cosine of each query to the candidate beside it: float32 [B]."""
        return np.einsum("bd,bd->b", self._taken(queries), self._candidates.take(np.asarray(candidates)))

    def shortlists(self, search: SearchName, asked: Sequence[tuple[int, int]]) -> Iterator[Shortlist]:
        """Yield a shortlist for each (query, attempt). One that repeats the one before it is not searched again."""
        repeats = [(*one, len(list(same))) for one, same in itertools.groupby(asked)]
        for turn, of_turn in itertools.groupby(repeats, lambda one: self._turn(search, one[0], one[1])):
            for block in in_chunks(of_turn, self._block_queries):
                found = self._block(search, turn, self._taken([query for query, _, _ in block]))
                for shortlist, (_, _, times) in zip(found, block, strict=True):
                    yield from itertools.repeat(shortlist, times)

    def _turn(self, search: SearchName, query: int, attempt: int) -> int:
        """Return the number of the sample that a query gets at an attempt; 0 where there are no samples."""
        return query // _SAMPLE_QUERIES + attempt if search == "sample" else 0

    def _block(self, search: SearchName, turn: int, vectors: NDArray[np.float32]) -> Iterator[Shortlist]:
        if search == "index" and self._index is not None:
            for vector, found in zip(vectors, self._index.search(vectors), strict=True):
                yield Shortlist(search, found, self._candidates.take(found) @ vector)
            return
        if search == "exact" and self._matrix is not None:
            numbers, matrix = self._numbers, self._matrix
        else:
            numbers = self._sample(turn)
            matrix = self._candidates.take(numbers)
        for similarities in vectors @ matrix.T:
            yield Shortlist(search, numbers, similarities)

    def _taken(self, queries: Sequence[int]) -> NDArray[np.float32]:
        return self._queries.take(np.asarray(queries))

    def _sample(self, turn: int) -> NDArray[np.int64]:
        """Return SAMPLE_SIZE candidates, the next ones of the order for each turn; the first follows the last."""
        start = turn * SAMPLE_SIZE % len(self._order)
        return np.sort(np.take(self._order, np.arange(start, start + SAMPLE_SIZE), mode="wrap"))
