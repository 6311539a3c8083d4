"""Groups of linked rows: rows of one query, and rows that were made from one another.

All of the project uses this rule. Rows with the same `group_key` are linked. A row with a `source_id` is linked with
the row of that id, even if that row is gone, and with all other rows made from it. Ids of merged rows count as ids of
the row that replaced them. Equal ids alone link nothing, because ids of concatenated files often repeat by chance.
"""

import unicodedata
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, query_key
from relevance.text.characters import normalize
from training.data.extras import SOURCE_ID, own_ids, source_ids
from training.data.stored.rows import having, queries_of


def group_key(query: str) -> str:
    """Return the key of a query by which rows are linked: that of the normalised text, which a model reads.

    To what `query_key` ignores come invisible characters (zero-width space, soft hyphen) and HTML entities, so that a
    key is the same before and after cleaning.
    """
    return unicodedata.normalize("NFKC", query_key(normalize(query)[0]))


def linked_groups(rows: Sequence[LabeledPair]) -> list[str]:
    """Return one group id [N] per row: rows that share a query or a `source_id`, transitively, are one group.

    The id is the smallest key of the group, so it does not depend on the order of rows.
    """
    return list(iter_groups(rows))


def iter_groups(rows: Sequence[LabeledPair]) -> Iterator[str]:
    """Yield the ids of `linked_groups`. In memory are the queries of rows that `source_id` links, and no others."""
    linked = linked_keys(rows)
    return (linked.get(key, key) for key in map(group_key, queries_of(rows)))


def linked_keys(
    rows: Iterable[LabeledPair],
    key_of: Callable[[str], str] = group_key,
    same: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """Return the group id of each key of a query that is linked with another: by `source_id`, or as one of `same`.

    `key_of` gives the key of a query. `rows` are gone through twice where rows have a `source_id`.
    """
    number: dict[str, int] = {}
    links = _Links()
    for pair in same:
        first, second = (number.setdefault(key, len(number)) for key in pair)
        links.join(first, second)
    # id -> a query of its group, once known. The name of merged sources has that of sources in it.
    ids = {name: -1 for row in having(rows, SOURCE_ID) for name in source_ids(row)}
    for row in rows if ids else ():
        for name in (*own_ids(row), *source_ids(row)):
            if name in ids:
                n = number.setdefault(key_of(row.pair.query), len(number))
                ids[name] = links.join(ids[name], n)
    least: dict[int, str] = {}
    for key, n in number.items():
        root = links.root(n)
        least[root] = min(key, least.get(root, key))
    return {key: least[links.root(n)] for key, n in number.items()}


def copy_groups(rows: Sequence[LabeledPair]) -> NDArray[np.int64]:
    """Return a group number [N] per row: a row and its translations with the same candidate and label are one group.

    Such rows say the same thing. Linked rows of another candidate (a sampled negative) or label are other groups.
    """
    return _source_groups(rows, lambda row: (query_key(row.pair.candidate), row.label))


def source_groups(rows: Sequence[LabeledPair]) -> NDArray[np.int64]:
    """Return a group number [N] per row: a row and all rows that were made from it, negatives too, are one group."""
    return _source_groups(rows, lambda row: None)


def _source_groups(rows: Sequence[LabeledPair], kind: Callable[[LabeledPair], Hashable]) -> NDArray[np.int64]:
    """Return a group number [N] per row: rows of one kind that are linked by `source_id`, transitively, are a group."""
    sources = {name for row in having(rows, SOURCE_ID) for name in source_ids(row)}
    first: dict[tuple[str, Hashable], int] = {}
    linked, links = array("q"), _Links()  # the places of linked rows, which alone have numbers in `links`
    for at, row in enumerate(rows if sources else ()):
        names = [name for name in (*own_ids(row), *source_ids(row)) if name in sources]
        for name in names:
            key = (name, kind(row))
            first[key] = links.join(first.get(key, -1), len(linked))
        if names:
            linked.append(at)
    places = np.frombuffer(linked, dtype=np.int64) if linked else np.zeros(0, dtype=np.int64)
    group_of = np.arange(len(rows))
    group_of[places] = places[[links.root(n) for n in range(len(places))]]
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[group_of] = True
    return (np.cumsum(is_first) - 1)[group_of]


def held_keys(rows: Iterable[LabeledPair]) -> set[str]:
    """Return the keys of the queries of held-out rows."""
    return set(map(group_key, {row.pair.query for row in rows}))


class _Links:
    """Union-find with path halving over numbers, each of which is one more than the greatest so far at most."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def root(self, n: int) -> int:
        """Return the number that stands for the set of a number."""
        self._parent.extend(range(len(self._parent), n + 1))
        parent = self._parent
        while parent[n] != n:
            parent[n] = n = parent[parent[n]]
        return n

    def join(self, a: int, b: int) -> int:
        """Join the sets of two numbers and return the root of both; -1 is in no set."""
        b = self.root(b)
        if a >= 0:
            self._parent[b] = b = self.root(a)
        return b
