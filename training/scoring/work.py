"""The work folder of a scoring run: finished shards beside the output, kept until the output is whole.

Where other machines score, it also holds the rows of the shards that are waiting.
"""

import io
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relevance.errors import MachineError
from relevance.storage.files import whole_file, writing
from relevance.storage.locks import output_lock
from relevance.storage.outputs import write_text
from relevance.tasks import Pair

log = logging.getLogger(__name__)

# `place` is the row's place among all rows, by which its record is found again.
SHARD = np.dtype([("place", "<i8"), ("score", "<f8"), ("label", "u1"), ("truncated", "?")])
FINGERPRINT_FILE = "fingerprint"


class ShardRows(NamedTuple):
    """The rows of a shard: the place of each among all rows of the source, from 0, and its pair."""

    index: int
    places: list[int]
    pairs: list[Pair]


@dataclass(frozen=True)
class Work:
    """A folder that only this process uses."""

    folder: Path

    def load(self, index: int, rows: int) -> NDArray[np.void] | None:
        """Return a finished shard, of dtype SHARD [rows], or None where it is missing or not readable."""
        found = _read(self._path(index))
        return found if found is not None and found.shape == (rows,) else None

    def rows(self) -> int:
        """Return how many rows the finished shards hold together."""
        shards = map(_read, self.folder.glob("shard-*.npy"))
        return sum(len(shard) for shard in shards if shard is not None)

    def save(self, index: int, shard: NDArray[np.void]) -> None:
        """Keep a finished shard, whole or not at all; its waiting rows, if any, are removed."""
        content = io.BytesIO()  # numpy writing to a file itself does not notice a full disk
        np.save(content, shard, allow_pickle=False)
        with whole_file(self._path(index)) as path:
            path.write_bytes(content.getvalue())
        self._waiting(index).unlink(missing_ok=True)

    def put(self, rows: ShardRows) -> None:
        """Keep the rows of a shard for other processes, whole or not at all."""
        columns = zip(*((pair.query, pair.candidate, pair.language) for pair in rows.pairs), strict=True)
        with whole_file(self._waiting(rows.index)) as path:
            path.write_text(json.dumps([rows.places, *columns]), encoding="ascii")

    def take(self, index: int) -> ShardRows:
        """Return the rows that `put` kept. Raises MachineError where they cannot be read."""
        file = self._waiting(index)
        try:
            places, *columns = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise MachineError(
                f"{file}: cannot be read ({why}); expected the folder of the output on a disk that all nodes share"
            ) from None
        return ShardRows(index, places, list(map(Pair, *columns)))

    def _path(self, index: int) -> Path:
        return self.folder / f"shard-{index:06d}.npy"

    def _waiting(self, index: int) -> Path:
        return self.folder / f"rows-{index:06d}.json"


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` that keeps the finished shards of a run."""
    return out.parent / f".{out.name}.work"


@contextmanager
def open_work(out: Path, mark: str) -> Iterator[Work]:
    """Open the work folder of `out`; remove it when the block ends well, keep it when not.

    A run with the same `mark` (what is scored, by which model, how) finds the shards finished before; shards of any
    other mark are removed. Raises MachineError where the folder cannot be made or another process writes the same
    output.
    """
    folder = work_folder(out)
    with output_lock(out):
        with writing(out):
            folder.mkdir(parents=True, exist_ok=True)
        _keep_only(folder, mark)
        try:
            with writing(out, temporary=folder):
                yield Work(folder)
        except Exception:
            if any(folder.glob("shard-*")):
                log.info("finished shards are kept in %s: the same command goes on from there", folder)
            raise
        shutil.rmtree(folder)


def _read(path: Path) -> NDArray[np.void] | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return found if found.dtype == SHARD and found.ndim == 1 else None


def _keep_only(folder: Path, mark: str) -> None:
    file = folder / FINGERPRINT_FILE
    if file.is_file() and file.read_text() == mark:
        return
    left = list(folder.iterdir())
    if left:
        log.info("model, file or options differ from those of the interrupted run in %s: starting anew", folder)
    for path in left:
        path.unlink()
    write_text(file, mark)
