"""Sends the requests of `relevance.client` on an event loop, with retries, by their deadlines. Knows no calls."""

import asyncio
import ssl
from collections.abc import Mapping

import httpcore  # noqa: F401  httpx would import it with the first request: too long for a budget

from relevance.client.exchange import Answer, Exchange, httpx


class Sender:
    """Connections to one service, at most `max_concurrency` of them. Belongs to one event loop."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], max_concurrency: int, context: ssl.SSLContext
    ) -> None:
        """`context` is that of HTTPS: making one takes milliseconds."""
        # The semaphore bounds the connections. A bound of httpx's would end all calls: a request that is cancelled just
        # when its connection is open leaves it in httpx's pool, where it counts for ever and is never used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=max_concurrency)
        self.http = httpx.AsyncClient(base_url=base_url, headers=dict(headers), limits=limits, verify=context)
        self._slots = asyncio.Semaphore(max_concurrency)

    async def send(self, exchange: Exchange[Answer]) -> Answer:
        """Return the answer to a request. Raises ClientError, at the deadline at the latest."""
        try:
            async with asyncio.timeout(exchange.seconds_left):
                return await self._attempts(exchange)
        except TimeoutError:
            raise exchange.expired() from None

    async def _attempts(self, exchange: Exchange[Answer]) -> Answer:
        while True:
            async with self._slots:
                if self.http.is_closed:
                    raise exchange.closed()
                try:
                    found = exchange.result(await self.http.post(**exchange.send()))
                except httpx.RequestError as error:
                    found = exchange.broken(error)
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)
