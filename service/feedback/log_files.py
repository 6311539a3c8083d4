"""The files of the feedback log. Each appears whole: it is written under a hidden name and renamed when it is full.

A writer locks the file that it writes. At start, files that ended processes left behind are cut to their last whole
line and published. `LogFiles` is used on the writer's thread only.
"""

import contextlib
import fcntl
import io
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from relevance.feedback import HIDDEN
from relevance.storage.locks import is_at
from service.settings import Settings

log = logging.getLogger(__name__)

BLOCK = 64 * 1024


class FolderFullError(Exception):
    """The folder holds `feedback_folder_bytes`."""


class LogFiles:
    """Appends lines to the current file of a folder; begins another by size and by time."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._file: io.FileIO | None = None
        self._path = folder
        self._bytes = self._number = 0
        self._until = 0.0  # when the current file is published, on time.monotonic

    def write(self, lines: bytes) -> None:
        """Append whole lines. On an error nothing of them stays in the file. Raises OSError and FolderFullError."""
        file = self._file or self._open()
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(self._bytes)
            file.seek(self._bytes)
            raise
        self._bytes += len(lines)
        if self._bytes >= self._settings.feedback_file_bytes:
            self.publish()

    def publish_if_due(self) -> None:
        """Publish the current file if its time is over. Raises OSError."""
        if time.monotonic() >= self._until:
            self.publish()

    def publish(self) -> None:
        """Close the current file, if there is one, and give it its name. Raises OSError."""
        file, self._file = self._file, None
        if file is not None:
            with file:
                _publish_lines(file, self._path)

    def adopt(self) -> None:
        """Publish the whole lines of files that ended processes left behind. Those of living ones are locked."""
        for path in sorted(self._folder.glob(f"{HIDDEN}*.jsonl")):
            try:
                with _locked(path) as file:
                    _publish_lines(file, path)
            except (FileNotFoundError, BlockingIOError):
                continue  # another process publishes it, or writes it
            except OSError as error:
                log.warning(f"feedback log: {path} stays as it is: {error.strerror}", extra={"file": str(path)})

    def _open(self) -> io.FileIO:
        used = sum(file.stat().st_size for file in self._folder.glob("*.jsonl*"))
        if used >= self._settings.feedback_folder_bytes:
            raise FolderFullError
        self._file = file = self._created()
        self._bytes, self._until = 0, time.monotonic() + self._settings.feedback_file_seconds
        return file

    def _created(self) -> io.FileIO:
        """Make a file, and lock it where the file system has locks."""
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            self._number += 1
            self._path = self._folder / f"{HIDDEN}{stamp}-{host}-{os.getpid()}-{self._number}.jsonl"
            try:
                file = io.FileIO(self._path, "x+")
            except FileExistsError:
                continue  # processes of several containers may share host name, id and second
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()  # another process has just found it without a lock, and adopts it
                continue
            except OSError:
                return file  # a file system without locks
            if is_at(file.fileno(), self._path):
                return file
            file.close()  # another process adopted it before it was locked, and removed it: it was empty


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[io.FileIO]:
    """Lock a file that is still at its path. Raises BlockingIOError, FileNotFoundError or another OSError."""
    with io.FileIO(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_at(file.fileno(), path):
            raise FileNotFoundError(path)
        yield file


def _publish_lines(file: io.FileIO, path: Path) -> None:
    """Cut what follows the last line break, and publish the rest; remove a file without a whole line."""
    end = size = os.fstat(file.fileno()).st_size
    found = -1
    while end and found < 0:
        begin = max(0, end - BLOCK)
        found = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
        end = begin if found < 0 else begin + found + 1
    if not end:
        path.unlink()
        return
    if end < size:
        file.truncate(end)
    os.fsync(file.fileno())
    path.rename(path.with_name(path.name.removeprefix(".")))
