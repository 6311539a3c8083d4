"""Calls the service's `/v1/score`: `Client` for plain code, `AsyncClient` for asyncio. Needs the extra `client`.

One call may be many requests: candidates are sent in chunks of at most `max_candidates`, and 429, 503 and broken
connections are retried. One deadline covers all of a call, and every request tells the service what is left of it.
"""

import asyncio
import json
import math
import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from relevance.clienttypes import (
    AnswerError,
    ClientError,
    DeadlineError,
    OverloadedError,
    Problem,
    RefusedError,
    RetryPolicy,
    ScoreResult,
    ServiceFaultError,
    UnavailableError,
    UnreachableError,
    retry_after_seconds,
)
from relevance.errors import ConfigError, MachineError
from relevance.tasks import UNKNOWN_LANGUAGE, Pair

try:
    import httpx
except ModuleNotFoundError as error:
    raise MachineError("relevance.client needs the package httpx: pip install 'relevance[client]'") from error

SCORE_PATH = "v1/score"
CONNECT_SECONDS = 5.0
LONGEST_MS = 999_999_999  # what the service takes in X-Request-Timeout-Ms
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ProxyError)  # may work next time

Body = Mapping[str, Any]


class Exchange:
    """One request with its retries, as decisions without I/O: what to send, whether to wait and for how long."""

    def __init__(self, body: Body, request_id: str, policy: RetryPolicy, deadline: float | None) -> None:
        """`deadline` is a reading of `time.monotonic()`, or None for none."""
        # A lone surrogate can't be UTF-8; sent as it is, the service refuses the body and says why.
        self.content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self._count = len(body.get("pairs", body.get("candidates", ())))
        self.attempts = 0
        self._request_id, self._policy, self._deadline = request_id, policy, deadline
        self._rng = random.Random()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, or None without one. Raises DeadlineError where none are left."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.expired()
        return left

    def send(self) -> Mapping[str, Any]:
        """Count an attempt; return `content`, `headers` and `timeout` for httpx. Raises DeadlineError."""
        left = self.seconds_left
        self.attempts += 1
        headers = {"Content-Type": "application/json", "X-Request-Id": self._request_id}
        if left is not None:
            headers["X-Request-Timeout-Ms"] = str(max(1, min(int(1000 * left), LONGEST_MS)))
        timeout = httpx.Timeout(left, connect=CONNECT_SECONDS if left is None else min(left, CONNECT_SECONDS))
        return {"content": self.content, "headers": headers, "timeout": timeout}

    def result(self, response: httpx.Response) -> ScoreResult | float:
        """Return what a response holds, or the seconds to wait before the next attempt. Raises ClientError."""
        if response.is_success:
            return self._parsed(response)
        problem = Problem.from_body(response.status_code, response.content)
        error = self._error(response, problem)
        if isinstance(error, OverloadedError | UnavailableError):
            error.retry_after_seconds = retry_after_seconds(response.headers.get("retry-after"))
            return self._wait(error, error.retry_after_seconds)
        raise error

    def broken(self, error: httpx.RequestError) -> float:
        """Return the seconds to wait after a request without a response. Raises ClientError."""
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            raise self.expired() from error
        failure = UnreachableError(f"{type(error).__name__}: {error}", self._request_id, self.attempts)
        failure.__cause__ = error
        if not isinstance(error, BROKEN):
            raise failure
        return self._wait(failure, None)

    def expired(self) -> DeadlineError:
        """Return the error of a call whose time ran out here."""
        return DeadlineError("no answer before the deadline of the call", self._request_id, self.attempts)

    def _wait(self, error: ClientError, retry_after: float | None) -> float:
        """Return how long to wait, or raise the error where no attempt is left, or no time for one."""
        wait = self._policy.wait_seconds(self.attempts - 1, retry_after, self._rng)
        if wait is None or (self._deadline is not None and time.monotonic() + wait >= self._deadline):
            raise error
        return wait

    def _error(self, response: httpx.Response, problem: Problem) -> ClientError:
        status = response.status_code
        known: dict[int, type[ClientError]] = {429: OverloadedError, 503: UnavailableError, 504: DeadlineError}
        kind = known.get(status) or (ServiceFaultError if status >= 500 else RefusedError if status >= 400 else None)
        return (kind or AnswerError)(
            f"{response.request.url}: {status} {problem.reason}: {problem.detail}",
            response.headers.get("x-request-id", self._request_id),
            self.attempts,
            problem,
        )

    def _parsed(self, response: httpx.Response) -> ScoreResult:
        try:
            found = ScoreResult.from_answer(response.json(), response.headers.get("x-request-id", self._request_id))
            if len(found.scores) != self._count:
                raise ValueError(f"{len(found.scores)} scores for {self._count} candidates")
            return found
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerError(
                f"{response.request.url}: no scores in the answer ({type(error).__name__}: {error}); expected one of "
                "the relevance service",
                self._request_id,
                self.attempts,
            ) from error


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
    ) -> tuple[str, Iterator[Exchange]]:
        """Return the id of the call and its requests, made one by one; from now on their time runs."""
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = None if seconds is None or math.isinf(seconds) else time.monotonic() + seconds
        name = request_id or uuid.uuid4().hex
        names = [name] if len(bodies) == 1 else [f"{name}/{number}" for number in range(1, len(bodies) + 1)]
        made = (Exchange(body, each, self._retry, deadline) for body, each in zip(bodies, names, strict=True))
        return name, made

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

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> ScoreResult:
        name, exchanges = self._exchanges(bodies, timeout_seconds, request_id)
        return ScoreResult.joined([self._send(exchange) for exchange in exchanges], name)

    def _send(self, exchange: Exchange) -> ScoreResult:
        while True:
            try:
                found = exchange.result(self._http.post(SCORE_PATH, **exchange.send()))
            except httpx.RequestError as error:
                found = exchange.broken(error)
            if isinstance(found, ScoreResult):
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

    async def _send(self, exchange: Exchange) -> ScoreResult:
        try:
            async with asyncio.timeout(exchange.seconds_left):
                return await self._attempts(exchange)
        except TimeoutError:
            raise exchange.expired() from None

    async def _attempts(self, exchange: Exchange) -> ScoreResult:
        while True:
            async with self._turns:
                try:
                    found = exchange.result(await self._http.post(SCORE_PATH, **exchange.send()))
                except httpx.RequestError as error:
                    found = exchange.broken(error)
            if isinstance(found, ScoreResult):
                return found
            await asyncio.sleep(found)


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _pair(pair: Pair) -> dict[str, str]:
    language = {} if pair.language == UNKNOWN_LANGUAGE else {"language": pair.language}
    return {"query": pair.query, "candidate": pair.candidate} | language
