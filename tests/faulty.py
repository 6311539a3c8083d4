"""A real service with a fault, as a process of its own: `python -m tests.faulty FAULT --bundle=TASK=FOLDER`.

Only the engine is another, and only after its warm-up: self-test, queue, HTTP and metrics are the real ones.
"""

import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relevance.errors import RelevanceError
from relevance.model.bundle import Bundle
from relevance.tasks import Task
from service.observability.logs import configure_logging
from service.process.server import serve
from service.runtime.session import Engine
from service.settings import Settings

SLOW_SECONDS, BUSY_SECONDS = 0.6, 0.12
BREAK_RUNS = 3  # runs that succeed
DEATH_RUNS = 40  # runs before the thread dies for the first time
LEAKED_BYTES = 2 * 1024 * 1024


class FaultyEngine(Engine):
    """An engine whose fault begins once it is warm."""

    runs = 0
    warm = False

    def warm_up(self, shape):
        found = super().warm_up(shape)
        self.warm = True
        return found

    def logits(self, pairs, width=0):
        if self.warm:
            self.runs += 1
            self.fault()
        return super().logits(pairs, width)

    def fault(self):
        raise NotImplementedError


class Slow(FaultyEngine):
    """Every run takes longer than the latency objective."""

    def fault(self):
        time.sleep(SLOW_SECONDS)


class Busy(FaultyEngine):
    """A run takes so long that few callers at once have to wait."""

    def fault(self):
        time.sleep(BUSY_SECONDS)


class Gated(FaultyEngine):
    """Every run waits until the file that the variable `TESTS_GATE` names exists: work stays in flight until then."""

    def fault(self):
        while not Path(os.environ["TESTS_GATE"]).exists():
            time.sleep(0.005)


class Failing(FaultyEngine):
    """Every run fails."""

    def fault(self):
        raise RuntimeError("this engine fails")


class Breaking(FaultyEngine):
    """Every run fails from some time on, as those of a CUDA context after its first error do."""

    def fault(self):
        if self.runs > BREAK_RUNS:
            raise RuntimeError("this engine is broken")


class DyingOnce(FaultyEngine):
    """One run ends the inference thread, as a fault outside of Python's errors would."""

    def fault(self):
        if self.runs == DEATH_RUNS:
            sys.exit("this engine dies")


class Dying(FaultyEngine):
    """Every run from some time on ends the inference thread."""

    def fault(self):
        if self.runs >= DEATH_RUNS:
            sys.exit("this engine dies")


class Panic(BaseException):
    """What the tokeniser's Rust code raises where it panics: no Exception (`pyo3_runtime.PanicException`)."""


class Panicking(FaultyEngine):
    """The tokeniser panics on every text."""

    def warm_up(self, shape):
        found = super().warm_up(shape)
        self.tokenizer.encode_texts = self.fault
        return found

    def fault(self, *given):
        raise Panic("index out of bounds")


class Leaking(FaultyEngine):
    """Every run keeps some memory."""

    kept: list

    def fault(self):
        self.kept = [*getattr(self, "kept", ()), np.ones(LEAKED_BYTES, dtype=np.uint8)]


FAULTS = {
    "slow": Slow,
    "busy": Busy,
    "failing": Failing,
    "breaking": Breaking,
    "gated": Gated,
    "dying-once": DyingOnce,
    "dying": Dying,
    "panicking": Panicking,
    "leaking": Leaking,
}


def command(fault: str) -> tuple[str, ...]:
    """Return the command that takes the place of `relevance serve` for `tests.serving.Process`."""
    return sys.executable, "-m", "tests.faulty", fault


def open_faulty(fault: str, bundle: Bundle, settings: Settings) -> Engine:
    """Return the engine of a fault; several workers can be told of it."""
    return FAULTS[fault](bundle, settings.threads, "cpu")


def main(arguments: Sequence[str]) -> None:
    fault, *bundles = arguments
    given = [each.removeprefix("--bundle=").split("=", 1) for each in bundles]
    settings = Settings.build()
    configure_logging(settings.log_level)
    try:
        serve(
            settings,
            {Task(task): Path(folder) for task, folder in given},
            functools.partial(open_faulty, fault),
        )
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
