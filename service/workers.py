"""Several serving processes behind one port, for CPUs: each holds its own models and event loop.

Each listens on a socket of its own, and the system deals the connections out among them. None accepts before all have
loaded their models, so that any of them may answer for all. Their metrics are kept in files that all of them read. A
worker that dies, or can no longer score, ends the whole service with its exit code: what started the service starts it
again, in a known state.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from relevance.errors import RelevanceError
from relevance.tasks import Task
from service.logs import configure_logging
from service.settings import Settings

log = logging.getLogger(__name__)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where workers share their metrics; prometheus_client reads it on import

LOOK_SECONDS = 0.02


def several_workers() -> bool:
    """Say whether this process shares its metrics with other workers."""
    return SHARED_FOLDER in os.environ


class Link:
    """A worker's line to the process that started it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self) -> None:
        """Say that a step is done: loaded, then accepting."""
        self._pipe.send(True)

    @property
    def lost(self) -> bool:
        """Whether the process that started this one is gone: it says nothing more once all have loaded."""
        return self._pipe.poll()

    async def everybody(self, given_up: Callable[[], bool]) -> bool:
        """Wait until all workers have loaded; False where that is no longer wanted, or the parent is gone."""
        while not self._pipe.poll():
            if given_up():
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return _told(self._pipe)


Work = Callable[[Settings, Mapping[Task, Path], int, Link], None]


def serve_with_workers(
    settings: Settings, bundles: Mapping[Task, Path], port: int, work: Work, ready: Callable[[], None]
) -> None:
    """Run `work` in `settings.workers` processes until they end; calls `ready` once all of them accept.

    Exits with the code of a worker that failed.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="relevance-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        pipes: list[Connection] = []
        children: list[SpawnProcess] = []
        for number in range(settings.workers):
            here, there = context.Pipe()
            child = context.Process(
                target=_run, args=(settings, bundles, port, work, there), name=f"worker-{number}", daemon=True
            )
            child.start()
            there.close()
            pipes.append(here)
            children.append(child)
        _pass_signals_on(children)
        _wait(children, pipes, ready)


def _run(settings: Settings, bundles: Mapping[Task, Path], port: int, work: Work, pipe: Connection) -> None:
    """Be one worker."""
    configure_logging(settings.log_level, settings.log_format)
    try:
        work(settings, bundles, port, Link(pipe))
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _pass_signals_on(children: list[SpawnProcess]) -> None:
    def forward(number: int, frame: object) -> None:
        for child in children:
            if child.is_alive() and child.pid is not None:
                os.kill(child.pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)


def _wait(children: list[SpawnProcess], pipes: list[Connection], ready: Callable[[], None]) -> None:
    """Wait until all workers have ended; the first that fails ends the others."""
    alive, starting, failed = {child.sentinel: child for child in children}, list(pipes), 0
    loading = True
    while alive:
        for event in wait([*alive, *starting]):
            if isinstance(event, Connection):
                starting.remove(event)
                if not _told(event) or starting or failed:
                    continue
                if not loading:
                    ready()
                    continue
                loading, starting = False, list(pipes)
                for pipe in pipes:
                    _go(pipe)
            elif isinstance(event, int):
                child = alive.pop(event)
                child.join()
                if child.exitcode and not failed:
                    failed = child.exitcode
                    log.error("a worker ended", extra={"worker": child.name, "exit_code": failed})
                    for other in alive.values():
                        other.terminate()
    if failed:
        sys.exit(failed if failed > 0 else 128 - failed)


def _go(pipe: Connection) -> None:
    with contextlib.suppress(BrokenPipeError):  # the worker has just ended
        pipe.send(True)


def _told(pipe: Connection) -> bool:
    try:
        return bool(pipe.recv())
    except (EOFError, ConnectionResetError):
        return False
