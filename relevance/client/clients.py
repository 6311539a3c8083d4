"""Calls the service: `Client` for plain code, `AsyncClient` for asyncio. Needs the extra `client`.

A call may take several requests: candidates are sent in chunks of at most `max_candidates`, and 429, 503 and broken
connections are retried. All requests carry the id of the call, and one model must answer them all. One deadline covers
the call; each request tells the service how much time is left. A bulk job is sent in chunks too, each with its own
timeout, so it may run for days. A re-ranking call is one request with a budget, and may keep the order instead of
failing. Knows HTTP; knows no models.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from relevance.client.arguments import checked_count, key_headers
from relevance.client.calls import BULK_ROWS, Body, Calls
from relevance.client.connections import LoopConnections, ProcessConnections, checked_environment
from relevance.client.exchange import Answer, Exchange, httpx
from relevance.client.feedback import FeedbackEvent, FeedbackResult
from relevance.client.rerank import RerankPolicy, RerankResult, RerankStats
from relevance.client.reranking import Reranking
from relevance.client.sender import Sender
from relevance.client.types import BulkScore, RetryPolicy, ScoreResult
from relevance.tasks import Pair

__all__ = ["BULK_ROWS", "AsyncClient", "Client"]

BULK_SECONDS = 600.0
RERANK = RerankPolicy()


class Client(AbstractContextManager["Client"]):
    """A client for synchronous code. It reuses connections, and threads and forked processes may share it."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float | None = 30.0,
        max_candidates: int = 500,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`timeout_seconds` bounds a call; None: no limit. `max_candidates` bounds one request."""
        self._calls = Calls(base_url, timeout_seconds, max_candidates, retry)
        headers, context = key_headers(api_key), checked_environment(httpx.create_ssl_context)
        self._open = functools.partial(ProcessConnections, self._calls.base_url, headers, context)
        self._opened = self._open()

    def score(
        self,
        task: str,
        query: str,
        candidates: Sequence[str],
        language: str | None = None,
        *,
        timeout_seconds: float | None = None,
        request_id: str | None = None,
    ) -> ScoreResult:
        """Score one query with many candidates, in their order. Raises ClientError."""
        return self._call(self._calls.candidate_bodies(task, query, candidates, language), timeout_seconds, request_id)

    def score_pairs(
        self, task: str, pairs: Sequence[Pair], *, timeout_seconds: float | None = None, request_id: str | None = None
    ) -> ScoreResult:
        """Score pairs, each with its own query, in their order. Raises ClientError."""
        return self._call(self._calls.pair_bodies(task, pairs), timeout_seconds, request_id)

    def score_bulk(
        self, task: str, pairs: Iterable[Pair], *, timeout_seconds: float = BULK_SECONDS, request_id: str | None = None
    ) -> Iterator[BulkScore]:
        """Score any number of pairs in their order, at bulk priority; at most 1,000 pairs are held in memory.

        `timeout_seconds` bounds each request of up to 1,000 pairs, with its retries. Raises ClientError.
        """
        exchanges = self._calls.bulk_exchanges(task, pairs, timeout_seconds, request_id)
        return (score for exchange in exchanges for score in self._send(exchange))

    def rerank(
        self,
        task: str,
        query: str,
        candidates: Sequence[str],
        language: str | None = None,
        *,
        budget_ms: float,
        policy: RerankPolicy = RERANK,
    ) -> RerankResult:
        """Order one query's candidates, best first, within `budget_ms` milliseconds, retries included.

        Candidates beyond the first `max_candidates` get no score. Raises ConfigError, and ClientError where
        `policy.fallback` is `raise`.
        """
        call, reranking = self._calls.rerank(task, query, candidates, language, budget_ms, policy), self._here.reranking
        loop, sender = self._here.on_loop()
        try:
            return loop.run(reranking.result(call, sender.send))
        except CancelledError:
            error = call.exchange().closed()
            reranking.counter.count(error.reason)
            return call.failed(error)

    @property
    def rerank_stats(self) -> RerankStats:
        """How the calls of `rerank` ended in this process so far."""
        return self._opened.reranking.counter.stats

    def feedback(
        self,
        request_id: str,
        events: Sequence[FeedbackEvent],
        *,
        query: str | None = None,
        timeout_seconds: float | None = None,
    ) -> FeedbackResult:
        """Send what users or judges did with the candidates of a scored request (`request_id` of its result).

        `query` is needed where requests of this id had several queries. Raises ConfigError and ClientError.
        """
        return self._send(self._calls.feedback(request_id, events, query, timeout_seconds))

    def close(self) -> None:
        """Close the connections. Calls of `rerank` in progress end as if the service could not be reached."""
        self._opened.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        call = self._calls.begun(bodies, timeout_seconds, request_id)
        while True:
            found = call.result(self._send(exchange) for exchange in call.exchanges())
            if not isinstance(found, float):
                return found
            time.sleep(found)

    def _send(self, exchange: Exchange[Answer]) -> Answer:
        http = self._here.http
        while True:
            try:
                found = exchange.result(http.post(**exchange.send()))
            except httpx.RequestError as error:
                found = exchange.broken(error)
            if not isinstance(found, float):
                return found
            time.sleep(found)
            if http.is_closed:
                raise exchange.closed()

    @property
    def _here(self) -> ProcessConnections:
        """The connections of this process: a forked one opens its own."""
        if not self._opened.of_this_process():
            self._opened = self._open()
        return self._opened


class AsyncClient(AbstractAsyncContextManager["AsyncClient"]):
    """A client for asyncio. At most `max_concurrency` requests of all its calls on one event loop run at once."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float | None = 30.0,
        max_candidates: int = 500,
        max_concurrency: int = 4,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`timeout_seconds` bounds a call; None: no limit. `max_candidates` bounds one request."""
        self._calls = Calls(base_url, timeout_seconds, max_candidates, retry)
        checked_count("max_concurrency", max_concurrency)
        headers, context = key_headers(api_key), checked_environment(httpx.create_ssl_context)
        make = functools.partial(Sender, self._calls.base_url, headers, max_concurrency, context)
        self._connections, self._reranking = LoopConnections(make), Reranking()

    async def score(
        self,
        task: str,
        query: str,
        candidates: Sequence[str],
        language: str | None = None,
        *,
        timeout_seconds: float | None = None,
        request_id: str | None = None,
    ) -> ScoreResult:
        """Score one query with many candidates, in their order. Raises ClientError."""
        return await self._call(
            self._calls.candidate_bodies(task, query, candidates, language), timeout_seconds, request_id
        )

    async def score_pairs(
        self, task: str, pairs: Sequence[Pair], *, timeout_seconds: float | None = None, request_id: str | None = None
    ) -> ScoreResult:
        """Score pairs, each with its own query, in their order. Raises ClientError."""
        return await self._call(self._calls.pair_bodies(task, pairs), timeout_seconds, request_id)

    def score_bulk(
        self, task: str, pairs: Iterable[Pair], *, timeout_seconds: float = BULK_SECONDS, request_id: str | None = None
    ) -> AsyncIterator[BulkScore]:
        """Score any number of pairs in their order, at bulk priority; at most 1,000 pairs are held in memory.

        `timeout_seconds` bounds each request of up to 1,000 pairs, with its retries. Raises ClientError.
        """
        return self._rows(self._calls.bulk_exchanges(task, pairs, timeout_seconds, request_id))

    async def rerank(
        self,
        task: str,
        query: str,
        candidates: Sequence[str],
        language: str | None = None,
        *,
        budget_ms: float,
        policy: RerankPolicy = RERANK,
    ) -> RerankResult:
        """Order one query's candidates, best first, within `budget_ms` milliseconds, retries included.

        Candidates beyond the first `max_candidates` get no score. Raises ConfigError, and ClientError where
        `policy.fallback` is `raise`.
        """
        call = self._calls.rerank(task, query, candidates, language, budget_ms, policy)
        return await self._reranking.result(call, self._connections.sender().send)

    @property
    def rerank_stats(self) -> RerankStats:
        """How the calls of `rerank` ended so far."""
        return self._reranking.counter.stats

    async def feedback(
        self,
        request_id: str,
        events: Sequence[FeedbackEvent],
        *,
        query: str | None = None,
        timeout_seconds: float | None = None,
    ) -> FeedbackResult:
        """Send what users or judges did with the candidates of a scored request (`request_id` of its result).

        `query` is needed where requests of this id had several queries. Raises ConfigError and ClientError.
        """
        return await self._connections.sender().send(self._calls.feedback(request_id, events, query, timeout_seconds))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        call = self._calls.begun(bodies, timeout_seconds, request_id)
        while True:
            found = call.result(await self._all(call.exchanges()))
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)

    async def _rows(self, exchanges: Iterable[Exchange[list[BulkScore]]]) -> AsyncIterator[BulkScore]:
        for exchange in exchanges:
            for score in await self._connections.sender().send(exchange):
                yield score

    async def _all(self, exchanges: Iterable[Exchange[ScoreResult]]) -> list[ScoreResult]:
        tasks = [asyncio.create_task(self._connections.sender().send(exchange)) for exchange in exchanges]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the first failure, or a cancelled call, cancels the other requests
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
