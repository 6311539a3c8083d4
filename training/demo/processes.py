"""The demo's other processes: `relevance export`, and `relevance serve` with what its log and its routes say.

Each leads a process group of its own: Ctrl-C reaches the demo alone, which ends them in its own order.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relevance.errors import BundleError, MachineError, ParityError
from relevance.tasks import Task

RELEVANCE = (sys.executable, "-m", "relevance")
POLL_SECONDS = 0.1
END_SECONDS = 20.0
SETTINGS = {"WATCH_SECONDS": "0.5", "KEEP_PREVIOUS": "false", "LOG_FORMAT": "json", "LOG_LEVEL": "INFO"}


def check_port(port: int) -> None:
    """Raise MachineError where a port of this machine is in use: minutes before the service would find it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise MachineError(
                f"port {port} on 127.0.0.1: {error.strerror}; expected a free port (--port, or make demo PORT=...)"
            ) from None


class Processes:
    """The child processes of one demo; `stopping` is set when they are being ended."""

    def __init__(self, log: Path) -> None:
        self.stopping = threading.Event()
        self._log = log
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def export(self, checkpoint: Path, bundle: Path) -> None:
        """Export a checkpoint. Raises ParityError where the command fails."""
        code = self.start("export", str(checkpoint), str(bundle), "--overwrite").wait()
        if code:
            raise ParityError(f"export of {checkpoint}: ended with status {code}; its message is in {self._log}")

    def start(self, *arguments: str, log: Path | None = None, **settings: str) -> subprocess.Popen[bytes]:
        """Start a command of `relevance`, its output in a log file."""
        environment = os.environ | {f"RELEVANCE_{name}": value for name, value in settings.items()}
        with self._lock, (log or self._log).open("ab") as stream:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            child = subprocess.Popen(
                [*RELEVANCE, *arguments], stdout=stream, stderr=stream, env=environment, process_group=0
            )
            self._children.append(child)
        return child

    def end(self) -> None:
        """End all that still run: a request to stop first, then by force."""
        with self._lock:
            self.stopping.set()
        for child in self._children:
            if child.poll() is None:  # the number of one that has ended may be another process's by now
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGINT)
        for child in self._children:
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


class Service:
    """`relevance serve` over the links of the parts."""

    def __init__(self, processes: Processes, bundles: Mapping[Task, Path], port: int, log: Path) -> None:
        self._log, self._stopping = log, processes.stopping
        self._begun = log.stat().st_size if log.exists() else 0
        named = [f"--bundle={task.value}={folder}" for task, folder in bundles.items()]
        self._child = processes.start("serve", *named, "--port", str(port), log=log, **SETTINGS)
        self.url = ""

    def wait_ready(self) -> None:
        """Wait until the service answers. Raises MachineError where it ends first."""
        while not (ready := [line for line in self._lines() if "url" in line and "tasks" in line]):
            self._pause()
        self.url = ready[0]["url"]

    def wait_for(self, task: Task, version: str | None) -> None:
        """Wait until a version of a task answers. Raises BundleError where the service refuses its bundle."""
        while True:
            told = [line for line in self._lines() if line.get("task") == task.value]
            if any(line.get("version") == version for line in told if line.get("event") == "model switched"):
                return
            if refused := [line for line in told if str(line.get("event")).startswith("bundle refused")]:
                raise BundleError(f"the service refused the bundle: {refused[-1].get('detail')}")
            self._pause()

    def wait(self) -> None:
        """Wait for the end of the service. Raises MachineError."""
        self._child.wait()
        raise MachineError(f"the service ended with status {self._child.returncode}; its log is {self._log}")

    def _pause(self) -> None:
        if self._child.poll() is not None:
            last = self._log.read_bytes()[self._begun :].decode(errors="replace").strip().rpartition("\n")[2]
            raise MachineError(f"the service ended with status {self._child.returncode}: {last} ({self._log})")
        if self._stopping.wait(POLL_SECONDS):
            raise KeyboardInterrupt

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self._log.read_bytes()[self._begun :].decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]
