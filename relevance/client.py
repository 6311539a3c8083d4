"""Calls the service: `Client` for plain code, `AsyncClient` for asyncio. Needs the extra `client`.

One call may be many requests: candidates are sent in chunks of at most `max_candidates`, and 429, 503 and broken
connections are retried. One deadline covers all of a call, and every request tells the service what is left of it.
A bulk job is sent in chunks too, each with a time of its own: rows may come, and scores be read, for days.
"""

import asyncio
import itertools
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from relevance.clienttypes import BulkScore, RetryPolicy, ScoreResult
from relevance.errors import ConfigError
from relevance.exchange import Answer, Exchange, Question, deadline_in, httpx
from relevance.tasks import UNKNOWN_LANGUAGE, Pair

SCORE_PATH, BULK_PATH = "v1/score", "v1/score/bulk"
BULK_ROWS = 1000  # of one request
BULK_SECONDS = 600.0

Body = Mapping[str, Any]


class _Calls:
    """What both clients share: how a call becomes requests, and their parts a result."""

    def __init__(
        self, base_url: str, timeout_seconds: float | None, max_candidates: int, retry: RetryPolicy | None
    ) -> None:
        if not re.match("https?://[^/]", base_url):
            raise ConfigError(f"base_url {base_url!r}: expected http://HOST:PORT or https://HOST")
        if max_candidates < 1:
            raise ConfigError(f"max_candidates {max_candidates}: expected at least 1")
        self._timeout_seconds, self._max_candidates = timeout_seconds, max_candidates
        self._retry = retry or RetryPolicy()

    def _exchanges(
        self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None
    ) -> tuple[str, Iterator[Exchange[ScoreResult]]]:
        """Return the id of the call and its requests, made one by one; from now on their time runs."""
        deadline = deadline_in(self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        name = request_id or uuid.uuid4().hex
        names = [name] if len(bodies) == 1 else [f"{name}/{number}" for number in range(1, len(bodies) + 1)]
        questions = map(_score_question, bodies)
        made = (Exchange(asked, each, self._retry, deadline) for asked, each in zip(questions, names, strict=True))
        return name, made

    def _bulk_exchanges(
        self, task: str, pairs: Iterable[Pair], timeout_seconds: float, request_id: str | None
    ) -> Iterator[Exchange[list[BulkScore]]]:
        """Return the requests of a bulk job, each made of the next pairs when it is asked for; then its time runs."""
        name, rows = request_id or uuid.uuid4().hex, iter(pairs)
        for number in itertools.count():
            if not (chunk := list(itertools.islice(rows, BULK_ROWS))):
                return
            question = _bulk_question(task, chunk, number * BULK_ROWS)
            yield Exchange(question, f"{name}/{number + 1}", self._retry, deadline_in(timeout_seconds))

    def _chunks(self, items: Sequence[Any]) -> list[Sequence[Any]]:
        """Cut into chunks; nothing at all is one empty chunk, which the service refuses and explains."""
        size = self._max_candidates
        return [items[start : start + size] for start in range(0, max(1, len(items)), size)]

    def _candidate_bodies(self, task: str, query: str, candidates: Sequence[str], language: str | None) -> list[Body]:
        common = {"task": str(task), "query": query} | ({"language": language} if language else {})
        return [common | {"candidates": list(chunk)} for chunk in self._chunks(candidates)]

    def _pair_bodies(self, task: str, pairs: Sequence[Pair]) -> list[Body]:
        return [{"task": str(task), "pairs": [_pair(pair) for pair in chunk]} for chunk in self._chunks(pairs)]


class Client(_Calls, AbstractContextManager["Client"]):
    """A client for plain code; connections are reused, and several threads may share it."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float | None = 30.0,
        max_candidates: int = 500,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`timeout_seconds` is the deadline of a call; None: none. `max_candidates` is what one request may hold."""
        super().__init__(base_url, timeout_seconds, max_candidates, retry)
        self._http = httpx.Client(base_url=base_url, headers=_headers(api_key))

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
        """Score any number of pairs in their order, behind everybody who waits, and hold 1,000 of them at most.

        `timeout_seconds` is for each request of so many, its retries included. Raises ClientError.
        """
        for exchange in self._bulk_exchanges(task, pairs, timeout_seconds, request_id):
            yield from self._send(exchange)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        name, exchanges = self._exchanges(bodies, timeout_seconds, request_id)
        return ScoreResult.joined([self._send(exchange) for exchange in exchanges], name)

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
    """A client for asyncio; at most `max_concurrency` requests of all its calls are under way at once."""

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
        """`timeout_seconds` is the deadline of a call; None: none. `max_candidates` is what one request may hold."""
        super().__init__(base_url, timeout_seconds, max_candidates, retry)
        if max_concurrency < 1:
            raise ConfigError(f"max_concurrency {max_concurrency}: expected at least 1")
        limits = httpx.Limits(max_connections=max_concurrency, max_keepalive_connections=max_concurrency)
        self._http = httpx.AsyncClient(base_url=base_url, headers=_headers(api_key), limits=limits)
        self._turns = asyncio.Semaphore(max_concurrency)

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

    async def score_bulk(
        self, task: str, pairs: Iterable[Pair], *, timeout_seconds: float = BULK_SECONDS, request_id: str | None = None
    ) -> AsyncIterator[BulkScore]:
        """Score any number of pairs in their order, behind everybody who waits, and hold 1,000 of them at most.

        `timeout_seconds` is for each request of so many, its retries included. Raises ClientError.
        """
        for exchange in self._bulk_exchanges(task, pairs, timeout_seconds, request_id):
            for score in await self._send(exchange):
                yield score

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        name, exchanges = self._exchanges(bodies, timeout_seconds, request_id)
        tasks = [asyncio.create_task(self._send(exchange)) for exchange in exchanges]
        try:
            return ScoreResult.joined(await asyncio.gather(*tasks), name)
        finally:  # the first failure, or a cancelled call, ends the requests that are still under way
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
            async with self._turns:
                try:
                    found = exchange.result(await self._http.post(**exchange.send()))
                except httpx.RequestError as error:
                    found = exchange.broken(error)
            if not isinstance(found, float):
                return found
            await asyncio.sleep(found)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


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
    """Return JSON. A lone surrogate can't be UTF-8; sent as it is, the service refuses it and says why."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _pair(pair: Pair) -> dict[str, str]:
    language = {} if pair.language == UNKNOWN_LANGUAGE else {"language": pair.language}
    return {"query": pair.query, "candidate": pair.candidate} | language
