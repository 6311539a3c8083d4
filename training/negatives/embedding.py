"""Embeddings of queries and candidates, kept on disk: the same texts are embedded once by the same encoder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.files import whole_file
from training.embedder import Embedder
from training.progress import Meter

# E5 models are trained with these.
QUERY_PREFIX = "query: "
CANDIDATE_PREFIX = "passage: "

_SHARD_TEXTS = 2048  # what a kill loses at most


class PairEncoder(Protocol):
    """Embeds both sides of pairs. `name` is that of the model, for reports."""

    name: str

    def embed(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        """Return one vector of length 1 a text behind `prefix`: float32 [N, D]."""


class PrefixedEmbedder(Embedder, Protocol):
    """An embedder that names its model and its weights, and can be had with another prefix."""

    name: str
    revision: str

    def with_prefix(self, prefix: str) -> "Embedder":
        """Return the same model with another prefix."""


class CachedEncoder:
    """A pair encoder that keeps vectors as .npy files of 2,048 texts in `folder`, each whole or not at all.

    A file's name is the hash of the encoder's name and revision, the prefix and its texts in their order. So a run that
    was killed goes on where it was, and further rows at the end of a data set cost only themselves.
    """

    def __init__(self, embedder: PrefixedEmbedder, folder: Path) -> None:
        self.name = embedder.name
        self._embedder, self._folder = embedder, folder

    def embed(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        """Return float32 [N, D]. InputError where the folder cannot be written or a file in it is broken."""
        unique = list(dict.fromkeys(texts))
        embedder = self._embedder.with_prefix(prefix)
        if not unique:
            return embedder.embed([])
        with Meter(f"embed {prefix.strip(': ')}", len(unique), "text") as meter:
            shards = []
            for start in range(0, len(unique), _SHARD_TEXTS):
                shard = unique[start : start + _SHARD_TEXTS]
                shards.append(self._shard(embedder, shard, prefix))
                meter.advance(len(shard))
        number = {text: n for n, text in enumerate(unique)}
        return np.concatenate(shards)[[number[text] for text in texts]]

    def _shard(self, embedder: Embedder, texts: list[str], prefix: str) -> NDArray[np.float32]:
        key = json.dumps([self.name, self._embedder.revision, prefix, texts])
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npy"
        try:
            if path.exists():
                return np.load(path)
            vectors = embedder.embed(texts)
            with whole_file(path) as beside, beside.open("wb") as stream:
                np.save(stream, vectors)
        except (OSError, ValueError) as error:
            raise InputError(
                f"embeddings {path}: {error}; expected a folder to write to, or remove this file"
            ) from None
        return vectors
