"""Files and folders that appear whole or not at all: written beside their place, synced, then renamed."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path` (whatever stood there), else it is removed.

    Where two processes make the same folder at once, the last one's folder stays; a reader never sees half of either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # some writers leave 0600, which a container's user cannot read
                _sync(file)
        _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(built: Path, path: Path) -> None:
    """Sync a finished folder to disk and move it to `path` on the same file system, whatever stood there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in built.rglob("*"):
        if file.is_file():
            _sync(file)
    _put_in_place(built, path)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename a folder over another: POSIX renames only over an empty one, so the old one steps aside first."""
    while True:
        try:
            temporary.rename(path)
            return
        except OSError:
            if not path.is_dir():
                raise
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        with contextlib.suppress(FileNotFoundError):  # another process may have moved it first
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
