"""Calls the service: `Client` for plain code, `AsyncClient` for asyncio. Needs the extra `client`.

A call may take several requests: candidates are sent in chunks of at most `max_candidates`, and 429, 503 and broken
connections are retried. All requests carry the id of the call, and one model must answer them all. One deadline covers
the call; each request tells the service how much time is left. A bulk job is sent in chunks too, each with its own
timeout, so it may run for days. Knows HTTP; knows no models.
"""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from relevance.clientinput import (
    checked_count,
    checked_pair,
    checked_pairs,
    checked_request_id,
    checked_rows,
    checked_seconds,
    checked_text,
    checked_texts,
    checked_url,
    key_headers,
)
from relevance.clienttypes import BulkScore, RetryPolicy, ScoreResult
from relevance.exchange import Answer, Call, Exchange, Question, deadline_in, httpx
from relevance.tasks import UNKNOWN_LANGUAGE, Pair

SCORE_PATH, BULK_PATH = "v1/score", "v1/score/bulk"
BULK_ROWS = 1000  # per request
BULK_SECONDS = 600.0

Body = Mapping[str, Any]


class _Calls:
    """What both clients share: splitting a call into requests, and joining their results."""

    def __init__(
        self, base_url: str, timeout_seconds: float | None, max_candidates: int, retry: RetryPolicy | None
    ) -> None:
        self._base_url = checked_url(base_url)
        self._timeout_seconds = checked_seconds("timeout_seconds", timeout_seconds)
        self._max_candidates = checked_count("max_candidates", max_candidates)
        self._retry = retry or RetryPolicy()

    def _begun(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> Call:
        """Return a call. Its deadline counts from now."""
        limit = checked_seconds("timeout_seconds", timeout_seconds)
        deadline = deadline_in(self._timeout_seconds if timeout_seconds is None else limit)
        name = checked_request_id(request_id) or uuid.uuid4().hex
        return Call(lambda: map(_score_question, bodies), name, self._retry, deadline)

    def _bulk_exchanges(
        self, task: str, pairs: Iterable[Pair], timeout_seconds: float, request_id: str | None
    ) -> Iterator[Exchange[list[BulkScore]]]:
        """Yield the requests of a bulk job. Each is built, and its deadline starts, when it is asked for."""
        limit = checked_seconds("timeout_seconds", timeout_seconds)
        name = checked_request_id(request_id) or uuid.uuid4().hex
        rows = itertools.starmap(checked_pair, zip(checked_rows(pairs), itertools.count(), strict=False))
        chunks = iter(lambda: list(itertools.islice(rows, BULK_ROWS)), [])
        questions = (_bulk_question(task, chunk, number * BULK_ROWS) for number, chunk in enumerate(chunks))
        return (Exchange(question, name, self._retry, deadline_in(limit)) for question in questions)

    def _chunks(self, items: Sequence[Any]) -> list[Sequence[Any]]:
        """Split into chunks. No items make one empty chunk, which the service refuses with a reason."""
        size = self._max_candidates
        return [items[start : start + size] for start in range(0, max(1, len(items)), size)]

    def _candidate_bodies(self, task: str, query: str, candidates: Sequence[str], language: str | None) -> list[Body]:
        common = {"task": str(task), "query": checked_text("query", query)}
        if language:
            common["language"] = checked_text("language", language)
        return [common | {"candidates": chunk} for chunk in self._chunks(checked_texts("candidates", candidates))]

    def _pair_bodies(self, task: str, pairs: Sequence[Pair]) -> list[Body]:
        return [
            {"task": str(task), "pairs": [_pair(pair) for pair in chunk]}
            for chunk in self._chunks(checked_pairs(pairs))
        ]


class Client(_Calls, AbstractContextManager["Client"]):
    """A client for synchronous code. It reuses connections, and threads may share it."""

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
        super().__init__(base_url, timeout_seconds, max_candidates, retry)
        self._http = httpx.Client(base_url=self._base_url, headers=key_headers(api_key))

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
        return self._call(self._candidate_bodies(task, query, candidates, language), timeout_seconds, request_id)

    def score_pairs(
        self, task: str, pairs: Sequence[Pair], *, timeout_seconds: float | None = None, request_id: str | None = None
    ) -> ScoreResult:
        """Score pairs, each with its own query, in their order. Raises ClientError."""
        return self._call(self._pair_bodies(task, pairs), timeout_seconds, request_id)

    def score_bulk(
        self, task: str, pairs: Iterable[Pair], *, timeout_seconds: float = BULK_SECONDS, request_id: str | None = None
    ) -> Iterator[BulkScore]:
        """Score any number of pairs in their order, at bulk priority; at most 1,000 pairs are held in memory.

        `timeout_seconds` bounds each request of up to 1,000 pairs, with its retries. Raises ClientError.
        """
        exchanges = self._bulk_exchanges(task, pairs, timeout_seconds, request_id)
        return (score for exchange in exchanges for score in self._send(exchange))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        call = self._begun(bodies, timeout_seconds, request_id)
        while True:
            found = call.result(self._send(exchange) for exchange in call.exchanges())
            if not isinstance(found, float):
                return found
            time.sleep(found)

    def _send(self, exchange: Exchange[Answer]) -> Answer:
        while True:
            try:
                found = exchange.result(self._http.post(**exchange.send()))
            except httpx.RequestError as error:
                found = exchange.broken(error)
            if not isinstance(found, float):
                return found
            time.sleep(found)


class AsyncClient(_Calls, AbstractAsyncContextManager["AsyncClient"]):
    """A client for asyncio. At most `max_concurrency` requests of all its calls run at once."""

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
        super().__init__(base_url, timeout_seconds, max_candidates, retry)
        checked_count("max_concurrency", max_concurrency)
        limits = httpx.Limits(max_connections=max_concurrency, max_keepalive_connections=max_concurrency)
        self._http = httpx.AsyncClient(base_url=self._base_url, headers=key_headers(api_key), limits=limits)
        self._slots = asyncio.Semaphore(max_concurrency)

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
        return await self._call(self._candidate_bodies(task, query, candidates, language), timeout_seconds, request_id)

    async def score_pairs(
        self, task: str, pairs: Sequence[Pair], *, timeout_seconds: float | None = None, request_id: str | None = None
    ) -> ScoreResult:
        """Score pairs, each with its own query, in their order. Raises ClientError."""
        return await self._call(self._pair_bodies(task, pairs), timeout_seconds, request_id)

    def score_bulk(
        self, task: str, pairs: Iterable[Pair], *, timeout_seconds: float = BULK_SECONDS, request_id: str | None = None
    ) -> AsyncIterator[BulkScore]:
        """Score any number of pairs in their order, at bulk priority; at most 1,000 pairs are held in memory.

        `timeout_seconds` bounds each request of up to 1,000 pairs, with its retries. Raises ClientError.
        """
        return self._rows(self._bulk_exchanges(task, pairs, timeout_seconds, request_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        call = self._begun(bodies, timeout_seconds, request_id)
        while True:
            found = call.result(await self._all(call.exchanges()))
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)

    async def _rows(self, exchanges: Iterable[Exchange[list[BulkScore]]]) -> AsyncIterator[BulkScore]:
        for exchange in exchanges:
            for score in await self._send(exchange):
                yield score

    async def _all(self, exchanges: Iterable[Exchange[ScoreResult]]) -> list[ScoreResult]:
        tasks = [asyncio.create_task(self._send(exchange)) for exchange in exchanges]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the first failure, or a cancelled call, cancels the other requests
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, exchange: Exchange[Answer]) -> Answer:
        try:
            async with asyncio.timeout(exchange.seconds_left):
                return await self._attempts(exchange)
        except TimeoutError:
            raise exchange.expired() from None

    async def _attempts(self, exchange: Exchange[Answer]) -> Answer:
        while True:
            async with self._slots:
                try:
                    found = exchange.result(await self._http.post(**exchange.send()))
                except httpx.RequestError as error:
                    found = exchange.broken(error)
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)


def _score_question(body: Body) -> Question[ScoreResult]:
    count = len(body.get("pairs", body.get("candidates", ())))

    def read(response: httpx.Response, request_id: str) -> ScoreResult:
        found = ScoreResult.from_answer(response.json(), request_id)
        if len(found.scores) != count:
            raise ValueError(f"{len(found.scores)} scores for {count} candidates")
        return found

    return Question(SCORE_PATH, "application/json", _encoded(body), read)


def _bulk_question(task: str, pairs: Sequence[Pair], first_row: int) -> Question[list[BulkScore]]:
    def read(response: httpx.Response, request_id: str) -> list[BulkScore]:
        version, lines = response.headers["x-model-version"], list(map(json.loads, response.content.splitlines()))
        if [line["line"] for line in lines] != list(range(1, len(pairs) + 1)):
            raise ValueError(f"{len(lines)} lines for {len(pairs)} pairs, or not in their order")
        rows = zip(itertools.count(first_row), pairs, lines, strict=False)
        return [BulkScore.from_line(row, pair, version, line) for row, pair, line in rows]

    content = b"".join(_encoded(_pair(pair)) + b"\n" for pair in pairs)
    return Question(f"{BULK_PATH}?{httpx.QueryParams(task=task)}", "application/x-ndjson", content, read)


def _encoded(body: Body) -> bytes:
    """Return JSON. A lone surrogate is not valid UTF-8; it is sent as it is, and the service refuses it."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _pair(pair: Pair) -> dict[str, str]:
    language = {} if pair.language == UNKNOWN_LANGUAGE else {"language": pair.language}
    return {"query": pair.query, "candidate": pair.candidate} | language
