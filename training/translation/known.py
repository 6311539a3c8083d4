"""Which pairs there are already, so that no new row repeats one, and which queries may not be made."""

import functools
from collections.abc import Collection

from relevance.tasks import query_key
from training.data.groups import group_key
from training.data.stored.rows import StoredRows
from training.data.stored.text_hashes import TextHashes

_KEPT_KEYS = 1 << 16


class KnownPairs:
    """The pairs of the given rows and of those made so far, over all targets. In memory are 8 to 16 bytes a pair."""

    def __init__(self, held_out: TextHashes, targets: Collection[str]) -> None:
        """Take the keys of held-out queries, and the languages in which copies may be asked for."""
        self._held_out, self._targets = held_out, frozenset(targets)
        self._pairs = TextHashes()

    def note(self, key: str, candidate: str, language: str) -> None:
        """Note the pair of a query, by its group key, and a candidate."""
        self._pairs.add(_pair(key, candidate))
        if language in self._targets:
            self._pairs.add(_pair(key, candidate, language))

    def repeated(self, query: str, candidate: str, target: str, is_copy: bool) -> str | None:
        """Return why a row would be a duplicate, or None. A copy is compared with rows of its own language only."""
        key = group_key(query)
        if key in self._held_out:
            return "held_out"
        return "duplicate" if _pair(key, candidate, target if is_copy else "") in self._pairs else None


def known_pairs(rows: StoredRows) -> KnownPairs:
    """Return the pairs of rows, to be compared in any language."""
    known, key_of = KnownPairs(TextHashes(), ()), functools.lru_cache(_KEPT_KEYS)(group_key)
    for batch in rows.batches():
        for query, candidate in zip(*(batch.column(name).to_pylist() for name in ("query", "candidate")), strict=True):
            known.note(key_of(query), candidate, "")
    return known


def _pair(key: str, candidate: str, language: str = "") -> str:
    """Return one text for a pair, in a language or in any: no two pairs have the same.

    Case and white space make no difference, as in votes on a pair (training.data.votes).
    """
    return f"{language}/{len(key)}/{key}{query_key(candidate)}"
