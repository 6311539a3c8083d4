"""The work folder of a scoring run: staged rows and finished shards, kept until the output is whole."""

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.storage.files import whole_file, writing
from relevance.storage.locks import output_lock
from relevance.storage.outputs import write_text

log = logging.getLogger(__name__)

# `place` is the row's place among all rows, by which its record is found again. `undecided`: a language model answered
# with neither word.
SHARD = np.dtype([("place", "<i8"), ("score", "<f8"), ("label", "u1"), ("truncated", "?"), ("undecided", "?")])
FINGERPRINT_FILE = "fingerprint"
SHARDS = "shard-*.npy"


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
        shards = map(_read, self.folder.glob(SHARDS))
        return sum(len(shard) for shard in shards if shard is not None)

    def save(self, index: int, shard: NDArray[np.void]) -> None:
        """Keep a finished shard, whole or not at all."""
        content = io.BytesIO()  # numpy writing to a file itself does not notice a full disk
        np.save(content, shard, allow_pickle=False)
        with whole_file(self._path(index)) as path:
            path.write_bytes(content.getvalue())

    def begin(self, mark: str, *names: str) -> None:
        """Begin or go on with the run of a `mark`: what is scored, by which model, how.

        Shards of another mark are removed, and all files but those of these `names`.
        """
        file = self.folder / FINGERPRINT_FILE
        goes_on = file.is_file() and file.read_text() == mark
        left = [path for path in self.folder.iterdir() if path.name not in names]
        if goes_on:
            left = [path for path in left if path != file and not path.match(SHARDS)]
        elif any(path.match(SHARDS) for path in left):
            log.info(
                "model, file or options differ from those of the interrupted run in %s: starting anew", self.folder
            )
        for path in left:
            path.unlink()
        write_text(file, mark)

    def _path(self, index: int) -> Path:
        return self.folder / f"shard-{index:06d}.npy"


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` that keeps the finished shards of a run."""
    return out.parent / f".{out.name}.work"


@contextmanager
def open_work(out: Path, *, lasting: bool = True) -> Iterator[Work]:
    """Open the work folder of `out`; remove it when the block ends well or holds no finished shard, else keep it.

    `lasting` false: `out` itself lies in a temporary folder, so that nothing is kept after an error.

    Raises MachineError where the folder cannot be made or another process writes the same output.
    """
    folder = work_folder(out)
    with output_lock(out):
        with writing(out):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with writing(out, temporary=folder):
                yield Work(folder)
        except Exception:
            if lasting and any(folder.glob(SHARDS)):
                log.info("finished shards are kept in %s: the same command goes on from there", folder)
            else:
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _read(path: Path) -> NDArray[np.void] | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return found if found.dtype == SHARD and found.ndim == 1 else None
