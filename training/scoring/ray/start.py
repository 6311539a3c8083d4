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
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from relevance.errors import MachineError
from relevance.storage.locks import is_at

OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray started here; the smallest that Ray takes is 75 MiB
CONNECT_SECONDS = 10.0
FOLDER = "relevance-ray-"  # a folder of a Ray started here, and the lock beside it that its driver holds
LOCK = ".lock"
# How long a Ray started here waits for its own processes, by its variables; by default it gives up after 30 to 100 s,
# which a busy machine needs. Read when Ray is imported.
PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": "600",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_raylet_client_num_connect_attempts": "600",  # one a second
}


def set_patience(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let a Ray started here take its time. To be called before Ray is imported. A value that the user set stays."""
    for name, value in PATIENCE.items():
        environment.setdefault(name, value)


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
    handle, lock = _held(parent)
    folder = _folder_of(lock)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(handle)


def _held(parent: Path) -> tuple[int, Path]:
    """Make a lock file and lock it; return its handle and path."""
    while True:
        handle, name = tempfile.mkstemp(LOCK, FOLDER, parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if is_at(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # before it was locked, another process took it for one that a killed process had left


def _folder_of(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix(LOCK))


def _remove_if_left(lock: Path) -> None:
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return  # it has just gone, or is another user's
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(_folder_of(lock), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(handle)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text that is not blank."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
