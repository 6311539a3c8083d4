"""Who still uses a model: a model that has been replaced is closed once nobody does."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager


class Holds:
    """Counts the users of one model. Used on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.revoked = asyncio.Event()  # whoever uses the model for longer than one request must stop
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

    async def released(self, patience_seconds: float) -> None:
        """Wait until nobody uses the model; after `patience_seconds` revoke the holds of bulk requests.

        The caller makes sure that nobody takes the model again.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self._free.wait()
                return
        self.revoked.set()
        await self._free.wait()
