"""Commands in processes of their own, forked from one that has imported torch and transformers: 4 s less for each.

Anything that `[python, "-c", CODE, ...]` or `[python, "-m", MODULE, ...]` does; it may be killed. How a command starts
from nothing, tests/contract/relevance/test_command_line.py tries.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        names = [file.name for file in self._files]
        environment = dict(os.environ if env is None else env)
        folder = str(cwd or Path.cwd())
        self._process = _CONTEXT.Process(target=_run, args=(self.args[1:], environment, folder, *names))
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return exit code, output and errors. TimeoutExpired where it runs on."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        output, errors = (Path(file.name).read_text(encoding="utf-8") for file in self._files)
        return subprocess.CompletedProcess(self.args, self._process.exitcode, output, errors)

    def kill(self) -> None:
        """Kill the command at once, and wait for its end."""
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


def _run(arguments: list[str], environment: dict[str, str], folder: str, output: str, errors: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, stream.fileno())
        os.close(file)
    option, what, *rest = arguments
    sys.argv = ["-c" if option == "-c" else what, *rest]
    try:
        if option == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
