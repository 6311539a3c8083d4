"""Locks of outputs: one process at a time writes an output. The lock of a killed process blocks nobody.

The system frees a lock when its process ends, however it ends. The lock's file names the process that holds it, and is
removed with the lock.
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
from relevance.files import writing
from relevance.outputs import STANDARD

P = ParamSpec("P")
T = TypeVar("T")


@contextlib.contextmanager
def output_lock(out: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold an output for this process; `lock` is the lock's file, `.NAME.lock` beside the output where none is given.

    Raises MachineError, at once, where another run holds it or where the lock's file cannot be made.
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
    """Make a function hold the output that its `parameter` names while it runs; none is held where that is None."""

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
    """Return the handle of the lock's file, locked."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise MachineError(f"{out}: in use by process {holder}; expected no other run that writes it") from None
        if _is_at(handle, lock):
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            return handle
        os.close(handle)  # its last holder removed the file between opening and locking


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
