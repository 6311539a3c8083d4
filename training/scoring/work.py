"""The work folder of a scoring run: finished shards of scores beside the output, kept until that is whole."""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import MachineError
from relevance.files import whole_file

log = logging.getLogger(__name__)

# `place` is the row's place among all rows, by which its record is found again.
SHARD = np.dtype([("place", "<i8"), ("score", "<f8"), ("label", "u1"), ("truncated", "?")])
FINGERPRINT_FILE = "fingerprint"


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
        """Keep a finished shard, whole or not at all."""
        with whole_file(self._path(index)) as path, path.open("wb") as stream:
            np.save(stream, shard, allow_pickle=False)

    def _path(self, index: int) -> Path:
        return self.folder / f"shard-{index:06d}.npy"


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` that keeps the finished shards of a run."""
    return out.parent / f".{out.name}.work"


@contextmanager
def open_work(out: Path, mark: str) -> Iterator[Work]:
    """Open the work folder of `out`; remove it when the block ends well, keep it when not.

    A run with the same `mark` (what is scored, by which model, how) finds the shards finished before; those of any
    other are thrown away. Raises MachineError where the folder cannot be made or another process is at work on the same
    output.
    """
    folder = work_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"output {out}: nothing can be written beside it ({error.strerror}); expected an output in a folder that "
            "is open to writing"
        ) from None
    handle = os.open(folder, os.O_RDONLY)  # the system frees the lock however the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _keep_only(folder, mark)
        yield Work(folder)
        shutil.rmtree(folder)
    except BlockingIOError:
        raise MachineError(f"output {out}: another process is scoring to it; expected one at a time") from None
    finally:
        os.close(handle)


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
    with whole_file(file) as path:
        path.write_text(mark)
