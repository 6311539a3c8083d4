"""Folds that no query crosses, nor its translations, nor the negatives made of its rows.

Rows are linked by query (relevance.tasks.query_key) and by the extra `source_id`, which names the row that a row was
made of; rows linked over any number of steps form a group, and a group goes to one fold whole.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, Pair, query_key
from training.splits import split_pairs

SOURCE_ID = "source_id"
_Node = tuple[str, str]  # "query" and a query key, or "id" and a row id


def linked_groups(rows: Sequence[LabeledPair]) -> list[str]:
    """Return the group [N] of each row: the least query key that it is linked with, in whatever order rows come."""
    links = _Links()
    # Only ids that something was made of link rows: files put together often repeat ids by chance.
    sources = {str(row.extra[SOURCE_ID]) for row in rows if row.extra.get(SOURCE_ID) is not None}
    for row in rows:
        query = ("query", query_key(row.pair.query))
        if row.id in sources:
            links.join(query, ("id", row.id))
        if row.extra.get(SOURCE_ID) is not None:
            links.join(query, ("id", str(row.extra[SOURCE_ID])))
    least: dict[_Node, str] = {}
    keys = [query_key(row.pair.query) for row in rows]
    for key in keys:
        root = links.root(("query", key))
        least[root] = min(key, least.get(root, key))
    return [least[links.root(("query", key))] for key in keys]


def assign_folds(rows: Sequence[LabeledPair], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold [N] in [0, folds) of each row, stratified by language and label as far as whole groups allow.

    The same rows and seed give the same folds in any order of rows. InputError where groups are fewer than folds.
    """
    return _dealt(rows, dict.fromkeys(map(str, range(folds)), 1 / folds), seed)


def dev_part(rows: Sequence[LabeledPair], share: float, seed: int) -> NDArray[np.bool_]:
    """Return True [N] for rows of whole groups that make up about `share` of the rows. InputError: too few groups."""
    return _dealt(rows, {"0": 1 - share, "1": share}, seed).astype(bool)


def _dealt(rows: Sequence[LabeledPair], fractions: dict[str, float], seed: int) -> NDArray[np.int64]:
    """Deal groups out as training.splits deals queries: it gets rows whose query is the name of their group."""
    named = [
        LabeledPair(Pair(group, "", row.pair.language), row.label, str(at))
        for at, (group, row) in enumerate(zip(linked_groups(rows), rows, strict=True))
    ]
    found = np.zeros(len(rows), dtype=np.int64)
    for name, members in split_pairs(named, fractions=fractions, seed=seed).items():
        found[[int(member.id) for member in members]] = int(name)
    return found


class _Links:
    """Union-find with path halving."""

    def __init__(self) -> None:
        self._parent: dict[_Node, _Node] = {}

    def root(self, node: _Node) -> _Node:
        parent = self._parent
        while (above := parent.get(node, node)) != node:
            parent[node] = parent.get(above, above)
            node = parent[node]
        return node

    def join(self, a: _Node, b: _Node) -> None:
        root_a, root_b = self.root(a), self.root(b)
        if root_a != root_b:
            self._parent[max(root_a, root_b)] = min(root_a, root_b)
