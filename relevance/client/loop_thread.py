"""An event loop in a thread of its own, so that plain code can run coroutines. Knows nothing of what they do."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """A running event loop in a daemon thread. A fork does not inherit the thread: see `usable`."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether the thread runs in this process; False after a fork."""
        return self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of a coroutine, or raise its error. An interrupted caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
