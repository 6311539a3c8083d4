"""Writes files and folders whole or not at all: beside their place, synced, then renamed. Knows no formats."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relevance.errors import MachineError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = _NO_ROOM | {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_REFUSED |= {errno.EIO, errno.ENAMETOOLONG, errno.ENXIO, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
# The messages of libraries for a failed write: safetensors, tokenizers, torch, numpy, sqlite.
_IN_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Read-only file system|Permission denied"
    r"|PytorchStreamWriter failed|file write failed|unexpected pos \d+ vs|requested and \d+ written"
    r"|database or disk is full|disk I/O error|readonly database|unable to open database file"
)


@contextlib.contextmanager
def writing(path: Path, needs: int | None = None, temporary: Path | None = None) -> Iterator[None]:
    """Turn every write error within the block into a MachineError that names `path`, not `temporary`.

    `needs` is the number of bytes to write, if known. Errors of other files, such as an input, pass unchanged.
    """
    try:
        yield
    except MachineError as error:
        if temporary is None or str(temporary) not in str(error):
            raise
        raise MachineError(str(error).replace(str(temporary), str(path))) from error
    except Exception as error:
        reason = write_failure(error)
        if reason is None or not _is_of(error, path):
            raise
        closed = isinstance(error, OSError) and error.errno not in _NO_ROOM
        mend = "; expected a place that is open to writing" if closed else ""
        raise MachineError(f"{path}: cannot be written: {reason}{_room(path, needs, temporary)}{mend}") from error


def write_failure(error: BaseException) -> str | None:
    """Return the system's reason for a failed write. None: the error is of another kind."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR) and error.filename
        return f"{error.filename} is no folder" if in_the_way else error.strerror
    words = _IN_WORDS.search(str(error))
    return words.group() if words else None


@contextlib.contextmanager
def whole_file(path: Path, needs: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`. On success it replaces `path`; on an error it is removed.

    The file has the mode of the one that it replaces, a new one that of the process's umask. Raises MachineError if the
    system refuses to write. `needs` is the number of bytes to write, if known.
    """
    with writing(path, needs):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with writing(path, needs, temporary):
            yield temporary
            _sync(temporary)
            temporary.chmod(_mode(path))
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`. On success it replaces `path`; on an error it is removed.

    If two processes write the same folder at once, the last one wins; a reader never sees a mixture. A link is
    replaced, not what it leads to. Raises MachineError if the system refuses to write.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
    try:
        with writing(path, temporary=temporary):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(0o666 & ~_umask())  # some writers leave 0600, which a container's user cannot read
                    _sync(file)
            _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(built: Path, path: Path) -> None:
    """Sync a finished folder to disk and move it to `path` on the same file system. Replaces what was there."""
    with writing(path, temporary=built):
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
    """Rename a folder over another. POSIX allows only an empty target, so the old folder is moved away first."""
    while True:
        if path.is_symlink():  # no folder can be renamed over it
            path.unlink(missing_ok=True)
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


def _mode(path: Path) -> int:
    """Return the mode for a file: that of the file at its path, else the usual one of new files."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o666 & ~_umask()


def _umask() -> int:
    """Return the process's umask. Where the system does not tell it without a change, the usual one."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Umask:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1], 8) if found else 0o022
    return 0o022


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_of(error: Exception, path: Path) -> bool:
    """Return whether an error concerns `path`, its temporary file or a folder above it, or names no file."""
    name = error.filename if isinstance(error, OSError) else None
    if not isinstance(name, str):
        return True
    named, own = Path(name).absolute(), path.absolute()
    temporary = [part for part in (named, *named.parents) if part.name.startswith(f".{own.name}.")]
    return bool(temporary) or own in (named, *named.parents) or named in own.parents


def _room(path: Path, needs: int | None, temporary: Path | None) -> str:
    """Return a text with the bytes needed or written, and those free on the disk."""
    place = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    with contextlib.suppress(OSError):
        free = f"{_megabytes(shutil.disk_usage(place).free)} free on its disk"
        if needs is None and temporary is not None:
            files = temporary.rglob("*") if temporary.is_dir() else [temporary]
            written = sum(file.stat().st_size for file in files if file.is_file())
            return f" (after {_megabytes(written)}; {free})"
        return f" ({_megabytes(needs)} needed; {free})" if needs is not None else ""
    return ""


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
