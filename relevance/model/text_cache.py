"""Texts as a model reads them, kept while they are in use: each is formatted and tokenised once.

For scoring many batches in which queries and candidates come back. Knows no pairs and no models.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Key = str | tuple[str, str]  # a candidate, or a query and its language

CACHE_BYTES = 32 * 2**20  # of each of two generations
ENTRY_BYTES = 400  # of an entry beside its text, its ids and its features


class TextFeatures(Protocol):
    """What a text contributes to the features of its pairs."""

    @property
    def nbytes(self) -> int:
        """The memory that it takes in bytes."""


class ReadText(NamedTuple):
    """The token ids int32 [T] of a text, and what it contributes to the features of its pairs, if anything."""

    ids: NDArray[np.int32]
    features: TextFeatures | None


class TextCache:
    """Keeps texts in two generations: when the young one is full, it becomes the old one, and the old one goes.

    What is used goes into the young one. Threads may share a cache: at worst they read a text twice.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._young: dict[Key, ReadText] = {}
        self._old: dict[Key, ReadText] = {}
        self._bytes = 0

    def get(self, keys: Iterable[Key]) -> list[ReadText | None]:
        """Return the kept text of each key, or None."""
        young, old = self._young, self._old
        found: list[ReadText | None] = []
        used: dict[Key, ReadText] = {}
        for key in keys:
            each = young.get(key)
            if each is None and (each := old.get(key)) is not None:
                used[key] = each
            found.append(each)
        self.put(used)
        return found

    def put(self, texts: Mapping[Key, ReadText]) -> None:
        """Keep texts."""
        for key, text in texts.items():
            self._young[key] = text
            features = 0 if text.features is None else text.features.nbytes
            size = sys.getsizeof(key if isinstance(key, str) else key[0])
            self._bytes += ENTRY_BYTES + text.ids.nbytes + features + size
            if self._bytes > self._max_bytes:
                self._old, self._young, self._bytes = self._young, {}, 0
