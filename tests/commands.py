"""Commands in processes of their own, forked from one that has imported torch and transformers: 4 s less for each.

It runs `[python, "-c", CODE, ...]` and `[python, "-m", MODULE, ...]`. tests/contract/relevance/test_command_line.py
tests the start of a command without this help.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

RELEVANCE = [sys.executable, "-m", "relevance"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["training.fitting.checkpoint", "training.models.encoder_embedder"])


class Started:
    """A started command: `pid` leads a process group of its own."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | Path | None = None
    ) -> None:
        self.args = list(map(str, command))
        environment = dict(os.environ if env is None else env)
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        ends = [theirs for _, theirs in pipes]
        self._process = _CONTEXT.Process(target=_run, args=(self.args[1:], environment, str(cwd or Path.cwd()), *ends))
        self._process.start()
        self.pid = self._process.pid
        for end in ends:
            end.close()
        self._readers = ThreadPoolExecutor(2)
        self._texts = [self._readers.submit(_read, ours) for ours, _ in pipes]

    def wait(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return exit code, output and errors. TimeoutExpired where it runs on."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        output, errors = (text.result(60) for text in self._texts)
        self._readers.shutdown()
        return subprocess.CompletedProcess(self.args, self._process.exitcode, output, errors)

    def kill(self) -> None:
        """Kill the command and its children at once, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):  # it has no group yet
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def run(
    command: Sequence[str],
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` with captured text."""
    started = Started(command, env, cwd)
    try:
        return started.wait(timeout)
    except subprocess.TimeoutExpired:
        started.kill()
        raise


def relevance(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command of `relevance`."""
    return run([*RELEVANCE, *map(str, arguments)], timeout)


def _read(end: Connection) -> str:
    with end, os.fdopen(os.dup(end.fileno()), encoding="utf-8") as stream:
        return stream.read()


def _run(
    arguments: list[str], environment: dict[str, str], folder: str, output: Connection, errors: Connection
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    for stream, end in ((sys.stdout, output), (sys.stderr, errors)):
        os.dup2(end.fileno(), stream.fileno())
        end.close()
    option, what, *rest = arguments
    sys.argv = ["-c" if option == "-c" else what, *rest]
    try:
        if option == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
