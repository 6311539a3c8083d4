"""Nearest candidates among millions, by an approximate index (HNSW, arXiv 1603.09320, as usearch has it)."""

import numpy as np
from numpy.typing import NDArray

from relevance.errors import MachineError
from training.embedding.candidate_vectors import Vectors
from training.progress import Meter

_BLOCK = 2048
_CONNECTIVITY = 16
_BUILD_BREADTH = 128
# Candidates looked at for each one that is wanted. On 20,000 random vectors of 384 dimensions, the worst case for such
# an index, 2 found .93 of the 256 nearest and 1 found .84.
_SEARCH_BREADTH = 2
_LEAST_SEARCH_BREADTH = 128


class NearestIndex:
    """An index over all vectors, in memory: float16, about 1 KiB for each of 384 dimensions.

    It is built by one thread, since only so the same vectors give the same index.
    """

    def __init__(self, vectors: Vectors, nearest: int) -> None:
        """Index the vectors, of length 1, for searches of the `nearest`. MachineError if usearch is missing."""
        try:
            from usearch.index import Index, MetricKind
        except ImportError:
            raise MachineError(
                "negatives: usearch is not installed, which finds hard negatives among so many candidates; expected "
                "`pip install usearch` (part of `.[train]`), or a larger exact_up_to"
            ) from None
        self._count = min(nearest, len(vectors))
        self._index = Index(
            ndim=vectors.dimensions,
            metric=MetricKind.IP,
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_BUILD_BREADTH,
            expansion_search=max(_SEARCH_BREADTH * nearest, _LEAST_SEARCH_BREADTH),
        )
        with Meter("index", len(vectors), "candidate") as meter:
            for start in range(0, len(vectors), _BLOCK):
                block = vectors.take(slice(start, start + _BLOCK))
                self._index.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=1)
                meter.advance(len(block))

    def search(self, queries: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        """Return for each query [B, D] the numbers of the candidates found nearest to it, in ascending order."""
        # usearch answers a single query in another form. Any number of threads finds the same.
        asked = queries if len(queries) > 1 else np.concatenate([queries, queries])
        found = self._index.search(asked, self._count, threads=0)
        keys, counts = np.asarray(found.keys), np.asarray(found.counts)
        return [np.sort(keys[n, : counts[n]]).astype(np.int64) for n in range(len(queries))]
