"""What the rows already say: which candidates are positive for a query, in whatever language it is written."""

from collections import defaultdict
from collections.abc import Sequence

from relevance.tasks import LabeledPair, query_key
from training.negatives.candidates import CandidatePool


class KnownPairs:
    """Positives of every row's query group, and every pair that is there. Rows are named by their index.

    Rows are of one group where their `query_key` is the same, or where `source_id` extras link them: a row with those
    made of it, and those with one another even where their source was dropped.
    """

    def __init__(self, rows: Sequence[LabeledPair], pool: CandidatePool) -> None:
        self._queries = [query_key(row.pair.query) for row in rows]
        self._groups = _groups(rows, self._queries)
        self._positives: defaultdict[str, set[int]] = defaultdict(set)
        self._pairs: set[tuple[str, int]] = set()
        for row, query in zip(rows, self._queries, strict=True):
            candidate = pool.number(row.pair.candidate)
            self._pairs.add((query, candidate))
            if row.label == 1:
                self._positives[self._groups[query]].add(candidate)

    def positives(self, row: int) -> set[int]:
        """Return the candidates that are positive for a row's query or its translations."""
        return self._positives[self._groups[self._queries[row]]]

    def has(self, row: int, candidate: int) -> bool:
        """Return whether a row's query stands with a candidate already, under any label."""
        return (self._queries[row], candidate) in self._pairs

    def add(self, row: int, candidate: int) -> None:
        """Remember that a row's query stands with a candidate."""
        self._pairs.add((self._queries[row], candidate))


def _groups(rows: Sequence[LabeledPair], queries: Sequence[str]) -> dict[str, str]:
    """Return for every query the one that stands for its group (union-find over queries and linked ids)."""
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    sources = {str(row.extra["source_id"]) for row in rows if row.extra.get("source_id") is not None}
    for row, query in zip(rows, queries, strict=True):
        here = ("query", query)
        root(here)
        # Ids may repeat: only those that a made row names are links.
        linked = {row.id} & sources
        if row.extra.get("source_id") is not None:
            linked.add(str(row.extra["source_id"]))
        for name in sorted(linked):
            parents[root(("id", name))] = root(here)
    return {query: "\0".join(root(("query", query))) for query in queries}
