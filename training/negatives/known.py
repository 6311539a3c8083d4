"""What the rows already say: which candidates are positive for a query, in whatever language it is written."""

from collections import defaultdict
from collections.abc import Sequence

from relevance.tasks import LabeledPair, query_key
from training.negatives.candidates import CandidatePool


class KnownPairs:
    """Positives of every row's query group, and every pair that is there. Rows are named by their index.

    `groups` [N] says which rows ask for the same: a query with its translations and with queries of the same words.
    """

    def __init__(self, rows: Sequence[LabeledPair], pool: CandidatePool, groups: Sequence[str]) -> None:
        self._queries = [query_key(row.pair.query) for row in rows]
        self._groups = groups
        self._positives: defaultdict[str, set[int]] = defaultdict(set)
        self._rows_of: defaultdict[int, list[int]] = defaultdict(list)
        self._pairs: set[tuple[str, int]] = set()
        for n, (row, query, group) in enumerate(zip(rows, self._queries, groups, strict=True)):
            candidate = pool.number(row.pair.candidate)
            self._pairs.add((query, candidate))
            if row.label == 1:
                self._positives[group].add(candidate)
                self._rows_of[candidate].append(n)

    def positives(self, row: int) -> set[int]:
        """Return the candidates that are positive for a row's query, its translations or queries of the same words."""
        return self._positives[self._groups[row]]

    def positive_rows(self, candidate: int) -> Sequence[int]:
        """Return the rows that have a candidate as their positive."""
        return self._rows_of.get(candidate, ())

    def has(self, row: int, candidate: int) -> bool:
        """Return whether a row's query stands with a candidate already, under any label."""
        return (self._queries[row], candidate) in self._pairs

    def add(self, row: int, candidate: int) -> None:
        """Remember that a row's query stands with a candidate."""
        self._pairs.add((self._queries[row], candidate))
