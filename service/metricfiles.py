"""The files that several workers share their metrics in, with room on the disk for all that is written to them.

prometheus_client maps files with holes into memory: on a full disk the first write to a hole ends the process (SIGBUS).
Here the disk's room is taken before a file is used or grows, so that a full disk is an OSError.
"""

import os
from pathlib import Path

from prometheus_client import mmap_dict, values
from prometheus_client.mmap_dict import MmapedDict

ENTRY_BYTES = 32  # of a value beside its name, padding included


class AllocatedFile(MmapedDict):
    """A file of values without holes."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        """Open a file. Raises OSError where the disk has no room for it."""
        if not read_mode:
            with Path(filename).open("a+b") as file:
                size = os.fstat(file.fileno()).st_size
                os.posix_fallocate(file.fileno(), 0, size or mmap_dict._INITIAL_MMAP_SIZE)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        """Add a value. Raises OSError where the disk has no room for it; then nothing has changed."""
        needed, capacity = self._used + len(key.encode()) + ENTRY_BYTES, self._capacity
        while capacity < needed:
            capacity *= 2
        if capacity > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def allocate_metric_files() -> None:
    """Let prometheus_client use such files from now on."""
    values.MmapedDict = AllocatedFile  # type: ignore[attr-defined]
