"""Connects to a cluster of Ray, or starts a Ray on this machine and leaves nothing of it. Imports Ray when it does."""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relevance.errors import MachineError

OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray started here; the smallest that Ray takes is 75 MiB
CONNECT_SECONDS = 10.0
FOLDER = "relevance-ray-"  # a folder of a Ray started here, and the lock beside it that its driver holds
LOCK = ".lock"


def check_address(address: str) -> None:
    """Raise MachineError where nothing listens at HOST:PORT; Ray itself would wait for minutes.

    `auto` is what Ray makes of it: RAY_ADDRESS, a cluster that runs here, or the one that this machine last joined,
    which may be gone.
    """
    if address == "local":
        return
    found = _found_by_ray() if address == "auto" else address
    named = address if address == found else f"{address} ({found}, by RAY_ADDRESS or Ray's file of the last cluster)"
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise MachineError(f"--ray {named}: no cluster answers ({error}); expected the address of its head") from None


def _found_by_ray() -> str:
    """Return the address that Ray finds for `auto`. Raises MachineError where it finds none."""
    from ray._private.services import canonicalize_bootstrap_address  # no public function tells it without a connection

    try:
        found: str | None = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        raise MachineError(
            "--ray auto: Ray finds no cluster; expected a node of one here, RAY_ADDRESS or --ray HOST:PORT"
        ) from None
    except ValueError as error:
        raise MachineError(f"--ray auto: RAY_ADDRESS: {first_line(error)}; expected HOST:PORT") from None
    if found is None:
        raise MachineError("--ray auto: RAY_ADDRESS is local; expected a cluster, or --ray local")
    return found


@contextlib.contextmanager
def started(address: str, cpus: int) -> Iterator[None]:
    """Connect to a cluster by its address, or start a Ray on this machine (`local`) and stop it at the end.

    One that this process has started before is used as it is. A local Ray listens on 127.0.0.1 alone, has no dashboard
    and sends no statistics. Raises MachineError where Ray does not start or no cluster answers.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        # Ray prints which workers died, at the end too; results go to standard output.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if address == "local":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
            folder = stack.enter_context(own_folder(Path(tempfile.gettempdir())))
            own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            own |= {"_node_ip_address": "127.0.0.1", "_temp_dir": str(folder)}
        stack.callback(ray.shutdown)
        try:
            ray.init(address, **own, **quiet)
        except Exception as error:  # errors of its start share no base class
            raise MachineError(f"--ray {address}: Ray does not start: {first_line(error)}") from error
        yield


@contextlib.contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for a Ray of this process and remove it at the end, with those of processes that were killed.

    A process holds the lock beside its folder for as long as it lives; a folder whose lock is free has no owner.
    """
    for lock in parent.glob(f"{FOLDER}*{LOCK}"):
        _remove_if_left(lock)
    handle, name = tempfile.mkstemp(LOCK, FOLDER, parent)
    lock, folder = Path(name), Path(name.removesuffix(LOCK))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(handle)


def _remove_if_left(lock: Path) -> None:
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return  # it has just gone, or is another user's
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_name(lock.name.removesuffix(LOCK)), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(handle)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text that is not blank."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
