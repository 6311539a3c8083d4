"""What the rows already say: which candidates are positive for a query, in whatever language it is written."""

from collections import defaultdict
from collections.abc import Sequence

from relevance.tasks import LabeledPair, query_key
from training.linking import linked_groups
from training.negatives.candidates import CandidatePool


class KnownPairs:
    """Positives of every row's query group, and every pair that is there. Rows are named by their index.

    Groups are those of training.linking: a query with its translations, even where their source was dropped.
    """

    def __init__(self, rows: Sequence[LabeledPair], pool: CandidatePool) -> None:
        self._queries = [query_key(row.pair.query) for row in rows]
        self._groups = linked_groups(rows)
        self._positives: defaultdict[str, set[int]] = defaultdict(set)
        self._pairs: set[tuple[str, int]] = set()
        for row, query, group in zip(rows, self._queries, self._groups, strict=True):
            candidate = pool.number(row.pair.candidate)
            self._pairs.add((query, candidate))
            if row.label == 1:
                self._positives[group].add(candidate)

    def positives(self, row: int) -> set[int]:
        """Return the candidates that are positive for a row's query or its translations."""
        return self._positives[self._groups[row]]

    def has(self, row: int, candidate: int) -> bool:
        """Return whether a row's query stands with a candidate already, under any label."""
        return (self._queries[row], candidate) in self._pairs

    def add(self, row: int, candidate: int) -> None:
        """Remember that a row's query stands with a candidate."""
        self._pairs.add((self._queries[row], candidate))
