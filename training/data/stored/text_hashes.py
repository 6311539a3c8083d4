"""A set of very many texts, of which only hashes are held."""

from hashlib import blake2b

import numpy as np

_RECENT = 65_536  # held as Python objects


class TextHashes:
    """A set of texts in 8 bytes each. Among N of them, another text is taken for one with a probability of N / 2^64."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)
        self._recent: set[int] = set()

    def add(self, text: str) -> None:
        """Add a text."""
        self._recent.add(_hash(text))
        if len(self._recent) == _RECENT:
            new = np.sort(np.fromiter(self._recent, np.uint64, _RECENT))
            self._recent = set()
            at = np.searchsorted(self._sorted, new)
            is_new = np.ones(_RECENT, dtype=bool)
            inside = at < len(self._sorted)
            is_new[inside] = self._sorted[at[inside]] != new[inside]
            self._sorted = np.insert(self._sorted, at[is_new], new[is_new])

    def __contains__(self, text: str) -> bool:
        found = _hash(text)
        if found in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(found)))
        return at < len(self._sorted) and int(self._sorted[at]) == found


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
