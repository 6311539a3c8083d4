"""Processes that kill themselves (SIGKILL) at a chosen moment, so that no test has to hit it by the clock."""

import fnmatch
import itertools
import os
import signal
import sys
from collections.abc import Sequence


def arm(pattern: str, count: int) -> None:
    """Kill this process as it is about to give the file `count` + 1 that fits `pattern` its final name."""
    seen = itertools.count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and fnmatch.fnmatch(str(arguments[1]), pattern) and next(seen) > count:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def dying(command: Sequence[str], pattern: str, count: int) -> list[str]:
    """Return `[python, "-c", code, ...]` with `arm` before the code."""
    python, option, code, *arguments = command
    assert option == "-c"
    return [python, option, f"from tests.dying import arm\narm({pattern!r}, {count})\n{code}", *arguments]
