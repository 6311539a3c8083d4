"""Whether the caller of a bulk request sends and reads fast enough while the service waits for it."""

import asyncio
import time
from collections.abc import Callable

LOOK_SECONDS = 0.05


class Pace:
    """The time for which the service still waits for a caller: `silence_seconds` at first and at most.

    It runs only while the service waits for the caller. Each byte that the caller sends or reads adds
    1 / `bytes_per_second` seconds.
    """

    def __init__(
        self, bytes_per_second: float, silence_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_second, self._most, self._clock = bytes_per_second, silence_seconds, clock
        self._left, self._waits, self._seen = silence_seconds, False, clock()

    @property
    def seconds_left(self) -> float:
        """Seconds for which the service still waits; 0 or less: the caller is too slow."""
        return self._left - (self._clock() - self._seen if self._waits else 0.0)

    def wait(self, waits: bool) -> None:
        """Note whether the service waits for the caller from now on."""
        self._left, self._seen = self.seconds_left, self._clock()
        self._waits = waits

    def moved(self, count: int) -> None:
        """Note that the caller has sent or read `count` bytes. Has no effect once no time is left."""
        self._left, self._seen = self.seconds_left, self._clock()
        if self._left > 0:
            self._left = min(self._most, self._left + count / self._bytes_per_second)

    async def run_out(self) -> None:
        """Return when no time is left."""
        while (left := self.seconds_left) > 0:
            await asyncio.sleep(max(left, LOOK_SECONDS))
