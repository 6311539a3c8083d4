"""Vectors of many texts outside of memory: half-precision numbers in a temporary file."""

import copy
import os
import tempfile
import weakref
from collections.abc import Collection
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from relevance.errors import MachineError
from training.data.stored.batches import in_chunks
from training.embedding.vectors import PairEncoder
from training.progress import Meter

BLOCK_TEXTS = 2048  # embedded at a time


class Vectors:
    """The vectors [N, D] of texts by one encoder, in their order; `centred`: less their mean, and of length 1 again.

    They are embedded 2,048 texts at a time and lie in the folder for temporary files (the environment's TMPDIR) as
    float16, which moves a cosine by less than 0.001. What was read of them does not stay in this process's memory.
    """

    def __init__(self, encoder: PairEncoder, texts: Collection[str], prefix: str, *, centred: bool) -> None:
        """Embed at least one text. MachineError if the disk is full; further errors are those of the encoder."""
        label = f"embed {prefix.strip(': ')}"
        total: NDArray[np.float64] | float = 0.0
        self._file, self._size = tempfile.TemporaryFile(), len(texts)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        with Meter(label, len(texts), "text") as meter:
            for chunk in in_chunks(texts, BLOCK_TEXTS):
                block = encoder.embed(chunk, prefix)
                total = total + block.sum(axis=0, dtype=np.float64)
                _write(self._file, block)
                meter.advance(len(block))
        self.dimensions = block.shape[1]
        self._mean, self._is_centred = np.asarray(total / len(texts), dtype=np.float32), centred
        self._owner: Vectors | None = None  # whose file this is, if not this object's: it closes it

    def __len__(self) -> int:
        return self._size

    def centred(self) -> Self:
        """Return the centred vectors of the same texts, from the same file."""
        other = copy.copy(self)
        other._is_centred, other._owner = True, self
        return other

    def take(self, numbers: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return the vectors of some texts, or of a slice of step 1: float32 [M, D]."""
        taken = np.frombuffer(self._read(numbers), dtype=np.float16).reshape(-1, self.dimensions).astype(np.float32)
        if self._is_centred:
            taken -= self._mean
            lengths = np.sqrt(np.einsum("nd,nd->n", taken, taken))
            taken /= np.maximum(lengths, 1e-9)[:, None]
        return taken

    def _read(self, numbers: NDArray[np.int64] | slice) -> bytes:
        """Return the bytes of vectors. They are read, not mapped: a map counts whole pages around each as memory."""
        file, size = self._file.fileno(), self.dimensions * np.dtype(np.float16).itemsize
        if isinstance(numbers, slice):
            start, stop, _ = numbers.indices(len(self))
            return os.pread(file, max(stop - start, 0) * size, start * size)
        return b"".join([os.pread(file, size, number * size) for number in numbers.tolist()])


def _write(file: IO[bytes], block: NDArray[np.float32]) -> None:
    try:
        file.write(block.astype(np.float16).tobytes())
        file.flush()
    except OSError as error:
        raise MachineError(
            f"{tempfile.gettempdir()}: no room for vectors ({error.strerror}); expected {2 * block.shape[1]:,} bytes "
            "for each query and candidate, or a TMPDIR that has them"
        ) from None
