"""Embeddings kept on disk text by text: what one stage embedded, no other embeds again.

A folder holds, for each model revision and prefix, the hashes of the texts and their vectors, both appended chunk by
chunk. A process that was killed loses the chunk in hand, and goes on with the very chunks that it would have had, so
that vectors come out the same to the last bit. Processes may share a folder.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.files import writing
from training.embedding.embedder import Embedder
from training.progress import Meter

# E5 models are trained with these.
QUERY_PREFIX = "query: "
CANDIDATE_PREFIX = "passage: "

_CHUNK_TEXTS = 1024  # what a kill loses at most
_QUIET_TEXTS = 2048
_KEY_BYTES = 16

Vectors = NDArray[np.float32]


class PairEncoder(Protocol):
    """Embeds both sides of pairs. `name` is that of the model, for reports."""

    name: str

    def embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        """Return one vector of length 1 a text behind `prefix`: float32 [N, D]."""


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
        self._embedder, self._folder = embedder, folder
        self._stores: dict[str, _Store] = {}

    def embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        """Return float32 [N, D]. MachineError where the folder cannot be written, InputError where it is damaged."""
        embedder = self._embedder.with_prefix(prefix)
        unique = list(dict.fromkeys(texts))
        if not unique:
            return embedder.embed([])
        name = hashlib.sha256(json.dumps([self._embedder.key, prefix]).encode()).hexdigest()[:24]
        try:
            with writing(self._folder / name):
                if prefix not in self._stores:
                    self._stores[prefix] = _Store(self._folder / name)
                store = self._stores[prefix]
                missing = [text for text in unique if _key(text) not in store.places]
                if missing:
                    self._fill(store, embedder, missing, prefix)
                return store.vectors([_key(text) for text in texts])
        except ValueError as error:
            raise InputError(f"embeddings {self._folder / name}: damaged ({error}); remove this one") from None

    def _fill(self, store: "_Store", embedder: Embedder, missing: list[str], prefix: str) -> None:
        # One who asks for a few thousand at a time shows progress himself.
        meter = Meter(f"embed {prefix.strip(': ')}", len(missing), "text") if len(missing) > _QUIET_TEXTS else None
        with meter or contextlib.nullcontext():
            for start in range(0, len(missing), _CHUNK_TEXTS):
                chunk = missing[start : start + _CHUNK_TEXTS]
                store.append([_key(text) for text in chunk], embedder.embed(chunk))
                if meter:
                    meter.advance(len(chunk))


class _Store:
    """One model revision and prefix: `keys` (16 bytes a text), `vectors` (float32), and where each key's vector is."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._keys, self._vectors, self._width = folder / "keys", folder / "vectors.f32", folder / "width"
        self.places: dict[bytes, int] = {}
        self._read_keys = 0
        self._read()

    def append(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Add vectors [N, D]; on disk before this returns. What another process has added in between stays."""
        with self._locked() as held:
            if not self._width.is_file():
                self._width.write_text(str(vectors.shape[1]))
            count = self._count()
            with self._vectors.open("ab") as stream:
                stream.truncate(count * vectors.shape[1] * 4)  # half a chunk of a killed process
                _write(stream, np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
            held.truncate(count * _KEY_BYTES)
            held.seek(0, os.SEEK_END)
            _write(held, b"".join(keys))
            self._read()

    def vectors(self, keys: Sequence[bytes]) -> Vectors:
        """Return the vectors [N, D] of keys that are there."""
        width = int(self._width.read_text())
        held = np.memmap(self._vectors, dtype=np.float32, mode="r", shape=(self._read_keys, width))
        return np.asarray(held[[self.places[key] for key in keys]])

    def _read(self) -> None:
        """Take note of the keys that have come since the last time."""
        begun, count = self._read_keys, self._count()
        if count <= begun:
            return
        with self._keys.open("rb") as stream:
            stream.seek(begun * _KEY_BYTES)
            content = stream.read((count - begun) * _KEY_BYTES)
        for n in range(count - begun):
            self.places[content[n * _KEY_BYTES : (n + 1) * _KEY_BYTES]] = begun + n
        self._read_keys = count

    def _count(self) -> int:
        """Return how many texts have both their key and their whole vector on disk."""
        if not (self._keys.is_file() and self._vectors.is_file() and self._width.is_file()):
            return 0
        width = int(self._width.read_text())
        return min(self._keys.stat().st_size // _KEY_BYTES, self._vectors.stat().st_size // (4 * width))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        with self._keys.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_KEY_BYTES]


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())
