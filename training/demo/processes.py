"""The demo's other processes: those that make the models of a part, and `relevance serve` with what its log says.

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relevance.errors import BundleError, MachineError
from relevance.model.cores import usable_cores
from relevance.tasks import Task

RELEVANCE = (sys.executable, "-m", "relevance")
POLL_SECONDS = 0.1
END_SECONDS = 20.0
SETTINGS = {
    "RELEVANCE_WATCH_SECONDS": "0.5",
    "RELEVANCE_KEEP_PREVIOUS": "false",
    "RELEVANCE_OPEN_REPORTS": "true",  # their rows are synthetic
    "RELEVANCE_LOG_FORMAT": "json",
    "RELEVANCE_LOG_LEVEL": "INFO",
}


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


def last_line(log: Path, begun: int = 0) -> str:
    """Return the last line that a log has from a byte on, and the log's name."""
    lines = log.read_bytes()[begun:].decode(errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    return f"{said.removeprefix('error: ')} ({log})"


class Processes:
    """The child processes of one demo; `stopping` is set when they are being ended."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._children: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()

    def run(self, what: str, *arguments: str, log: Path, of: int) -> Iterator[str]:
        """Run a command of `relevance`, one of `of` that share the cores, and yield the lines that it prints.

        Raises MachineError where it fails, which calls it `what`.
        """
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // of))
        child = self.start(*arguments, log=log, output=subprocess.PIPE, OMP_NUM_THREADS=threads)
        with child.stdout or contextlib.nullcontext(()) as lines:
            yield from (line.strip() for line in lines)
        if child.wait() and self.stopping.is_set():
            raise KeyboardInterrupt
        if child.returncode:
            raise MachineError(f"{what} ended with status {child.returncode}: {last_line(log)}")

    def start(
        self, *arguments: str, log: Path, output: int | None = None, **environment: str
    ) -> "subprocess.Popen[str]":
        """Start a command of `relevance`. What it prints goes to the log, unless `output` says where else."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, log.open("ab") as stream:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            child = subprocess.Popen(
                [*RELEVANCE, *arguments],
                stdout=output or stream,
                stderr=stream,
                env=os.environ | environment,
                process_group=0,
                text=True,
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
            last = last_line(self._log, self._begun)
            raise MachineError(f"the service ended with status {self._child.returncode}: {last}")
        if self._stopping.wait(POLL_SECONDS):
            raise KeyboardInterrupt

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self._log.read_bytes()[self._begun :].decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]
