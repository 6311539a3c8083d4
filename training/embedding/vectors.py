"""Embeddings cached on disk by text, so that a text that one stage embedded is not embedded again.

A killed process loses the current chunk and resumes with the same chunks, so that vectors are the same to the last bit.
Processes may share a folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from training.data.disk_cache import DiskCache
from training.progress import Meter

# E5 models are trained with these.
QUERY_PREFIX = "query: "
CANDIDATE_PREFIX = "passage: "

_FILE = "embeddings.sqlite"
_CHUNK_TEXTS = 1024  # what a kill loses at most

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike their meanings are, across languages."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector of length 1 per text: float32 [N, D]."""


class PairEncoder(Protocol):
    """Embeds both sides of pairs. `name` is that of the model, for reports."""

    name: str

    def embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        """Return one vector of length 1 per text, with `prefix` before each text: float32 [N, D]."""


class PrefixedEmbedder(Embedder, Protocol):
    """An embedder that can be had with another prefix; beside text and prefix its vectors depend on `key` alone."""

    name: str
    key: str

    def with_prefix(self, prefix: str) -> "Embedder":
        """Return the same model with another prefix."""


class CachedEncoder:
    """A pair encoder that keeps its vectors in `folder`."""

    def __init__(self, embedder: PrefixedEmbedder, folder: Path) -> None:
        self.name = embedder.name
        self._embedder, self._path = embedder, folder / _FILE

    def embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        """Return float32 [N, D]. MachineError if the folder cannot be written, InputError if it is damaged."""
        embedder, space = self._embedder.with_prefix(prefix), (self._embedder.key, prefix)
        unique = list(dict.fromkeys(texts))
        if not unique:
            return embedder.embed([])
        with DiskCache(self._path, "embeddings") as cache:
            known = cache.get(space, unique)
            missing = [text for text in unique if text not in known]
            with Meter(f"embed {prefix.strip(': ')}", len(missing), "text") as meter:
                for start in range(0, len(missing), _CHUNK_TEXTS):
                    chunk = missing[start : start + _CHUNK_TEXTS]
                    vectors = np.ascontiguousarray(embedder.embed(chunk), dtype=np.float32)
                    cache.put(space, {text: vector.tobytes() for text, vector in zip(chunk, vectors, strict=True)})
                    meter.advance(len(chunk))
            known |= cache.get(space, missing)  # another process may have been first
        try:
            return np.stack([np.frombuffer(known[text], dtype=np.float32) for text in texts])
        except (TypeError, ValueError) as error:
            raise InputError(f"embeddings {self._path}: damaged ({error}); remove this file") from None
