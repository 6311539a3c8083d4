"""Runs the service for tests: as a real process on a free loopback port, or in this process over ASGI."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from relevance.tasks import Pair, Task
from service.api.app import create_app
from service.lifecycle.service import Service
from service.settings import Settings

COMMAND = [sys.executable, "-c", "from relevance.cli import main; main()", "serve"]
START_SECONDS = 120  # a limit for a busy machine; nothing waits for it

Answer = TypeVar("Answer")


class Process:
    """`relevance serve` as a child process; its log lines are collected as they come."""

    def __init__(
        self, bundles: Mapping[str, Path], command: Sequence[str] = tuple(COMMAND), **settings: object
    ) -> None:
        environment = os.environ | {"RELEVANCE_PORT": "0", "RELEVANCE_DRAIN_SECONDS": "0"}
        environment |= {f"RELEVANCE_{name.upper()}": str(value) for name, value in settings.items()}
        arguments = [f"--bundle={task}={folder}" for task, folder in bundles.items()]
        self.lines: list[str] = []
        self.child = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> str:
        """Return the URL that the service says it is ready at."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.child.poll() is None:
            for line in list(self.lines):
                if '"ready at' in line:
                    return str(json.loads(line)["url"])
            time.sleep(0.02)
        raise AssertionError("not ready:\n" + "\n".join(self.lines))

    def end(self, with_signal: signal.Signals | None = None) -> int:
        """Send a signal if one is given, wait for the end and return the exit code."""
        if with_signal is not None:
            self.child.send_signal(with_signal)
        code = self.child.wait(START_SECONDS)
        self._reader.join()
        return code

    def _read(self) -> None:
        with self.child.stderr as stderr:
            for line in stderr:
                self.lines.append(line.rstrip("\n"))


@contextlib.contextmanager
def running(
    bundles: Mapping[str, Path], command: Sequence[str] = tuple(COMMAND), **settings: object
) -> Iterator[Process]:
    """Start `relevance serve`, or another command like it, and make sure that it is gone in the end."""
    process = Process(bundles, command, **settings)
    try:
        yield process
    finally:
        process.child.kill()
        process.end()


def admin_url(process: Process) -> str:
    """Return the URL of the admin interface of a process that has one."""
    process.wait_ready()
    return str(next(json.loads(line)["url"] for line in process.lines if "admin interface at" in line))


def served_scores(folder: Path, pairs: Sequence[Pair], task: Task = Task.QC) -> list[float]:
    """Return the scores of pairs by a bundle, as `/v1/score` answers."""
    body = [{"query": pair.query, "candidate": pair.candidate, "language": pair.language} for pair in pairs]

    async def ask(client: httpx.AsyncClient, service: Service) -> list[float]:
        answer = await client.post("/v1/score", json={"task": task, "pairs": body})
        return [each["score"] for each in answer.raise_for_status().json()["scores"]]

    return in_process({task: folder}, ask)


def in_process(
    bundles: Mapping[Task, Path],
    scenario: Callable[[httpx.AsyncClient, Service], Awaitable[Answer]],
    **settings: Any,
) -> Answer:
    """Run the app in this process, its bundles loaded or failed to load, and return what the scenario returns."""

    async def run() -> Answer:
        app = create_app(Settings(**settings), bundles)
        async with app.router.lifespan_context(app):
            await app.state.service.settled.wait()
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return await scenario(client, app.state.service)

    return asyncio.run(run())
