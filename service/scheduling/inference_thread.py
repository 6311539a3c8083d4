"""One of the threads that make model runs; what they run is the scheduler's matter."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable

from service.scheduling.batching import Batch

STALL_SECONDS = 60.0  # a run that takes longer than this counts as a dead inference thread
NICENESS = 5  # of the inference threads above the process's own


class Runner:
    """One inference thread: the batch that it has in hand, since when it runs, and since when work was there for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread: threading.Thread
        self.batch: Batch | None = None
        self.began = math.inf
        self.busy_since = time.monotonic()

    def start(self, work: Callable[["Runner"], None]) -> None:
        """Start the thread, or another one where it has ended; it does `work`."""
        self.batch, self.began = None, math.inf
        self.thread = threading.Thread(target=self._begin, args=(work,), name=self.name, daemon=True)
        self.thread.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended, and is not stuck in a run."""
        return self.thread.is_alive() and time.monotonic() - self.began <= STALL_SECONDS

    def _begin(self, work: Callable[["Runner"], None]) -> None:
        """Work at a lower priority: the event loop has little to do, and is to do it at once."""
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # where the system does not allow it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        work(self)
