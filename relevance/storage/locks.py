"""Locks of outputs: one process at a time writes an output. Knows no formats.

The system releases a lock when its process ends, even if it was killed. The lock file names the process that holds the
lock, and is removed with it.
"""

import contextlib
import fcntl
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from relevance.errors import MachineError
from relevance.storage.files import writing
from relevance.storage.outputs import STANDARD

P = ParamSpec("P")
T = TypeVar("T")


@contextlib.contextmanager
def output_lock(out: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold the lock of an output. `lock` is the lock file; the default is `.NAME.lock` beside the output.

    Raises MachineError at once if another process holds the lock, or if the file cannot be made.
    """
    lock = lock or out.parent / f".{out.name}.lock"
    with writing(out):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _held(out, lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def locks_output(parameter: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function to hold the lock of the output in its `parameter` while it runs. None: no lock."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> T:
            out = signature.bind(*args, **kwargs).arguments.get(parameter)
            path = None if out is None else Path(out)
            with contextlib.nullcontext() if path is None or path == STANDARD else output_lock(path):
                return function(*args, **kwargs)

        return locked

    return decorate


def _held(out: Path, lock: Path) -> int:
    """Lock the lock file and return its handle."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise MachineError(f"{out}: in use by process {holder}; expected no other run that writes it") from None
        if is_at(handle, lock):
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            return handle
        os.close(handle)  # its last holder removed the file between opening and locking


def is_at(handle: int, path: Path) -> bool:
    """Return whether an open file is still the one at `path`: another process may have removed or replaced it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
