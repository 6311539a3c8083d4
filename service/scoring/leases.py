"""Leases of a model: a replaced model is closed once its last lease is released. Knows nothing of the model."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager


class Leases:
    """The leases of one model. Used on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.revoked = asyncio.Event()  # bulk requests, which hold a lease for long, must stop
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Hold a lease: the model stays open meanwhile."""
        self.count += 1
        self._free.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._free.set()

    async def wait_until_free(self, timeout_seconds: float) -> None:
        """Wait until all leases are released. After `timeout_seconds` the leases of bulk requests are revoked.

        The caller must prevent new leases.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._free.wait()
                return
        self.revoked.set()
        await self._free.wait()
