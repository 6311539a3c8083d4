"""Who still uses a model: a model that has been replaced is closed once nobody does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Holds:
    """Counts the users of one model. Used on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Use the model meanwhile."""
        self.count += 1
        self._free.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._free.set()

    async def released(self) -> None:
        """Wait until nobody uses the model; that it is not taken again is the caller's to see to."""
        await self._free.wait()
