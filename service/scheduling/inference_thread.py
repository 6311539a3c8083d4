"""One of the threads that make model runs. Knows neither the queue nor the model: it runs the work it is given."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable

from service.scheduling.batching import Batch

STALL_SECONDS = 60.0  # an inference thread whose run takes longer than this counts as dead
NICENESS = 5  # of the inference threads, added to the process's own


class InferenceThread:
    """An inference thread: its current batch, when its run began, and since when it has been busy."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: threading.Thread
        self.batch: Batch | None = None
        self.run_began = math.inf
        self.busy_since = time.monotonic()

    def start(self, work: Callable[["InferenceThread"], None]) -> None:
        """Start the thread on `work`; replaces a thread that has ended."""
        self.batch, self.run_began = None, math.inf
        self.handle = threading.Thread(target=self._run, args=(work,), name=self.name, daemon=True)
        self.handle.start()

    @property
    def alive(self) -> bool:
        """Whether the thread has neither ended nor stalled in a run."""
        return self.handle.is_alive() and time.monotonic() - self.run_began <= STALL_SECONDS

    def _run(self, work: Callable[["InferenceThread"], None]) -> None:
        """Work at a lower priority than the event loop, which has little to do and must do it at once."""
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # the system may not allow it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        work(self)
