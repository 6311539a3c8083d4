"""Decides what `relevance.client` sends and when it retries. Does no I/O and knows no event loop."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from relevance.client.types import (
    AnswerError,
    ClientError,
    DeadlineError,
    MixedModelsError,
    ModelVersion,
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
from relevance.errors import MachineError

try:
    import httpx
except ModuleNotFoundError as error:
    raise MachineError("relevance.client needs the package httpx: pip install 'query-relevance[client]'") from error

__all__ = ["Answer", "Call", "Exchange", "Question", "deadline_in", "httpx"]

CONNECT_SECONDS = 5.0
MAX_WAIT_SECONDS = 1e6  # of one network operation: a socket takes 24 days at most
MAX_TIMEOUT_MS = 999_999_999  # the most that the service accepts in X-Request-Timeout-Ms
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ProxyError)  # a retry may succeed

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """A request to the service, and how to read its answer.

    `read` takes the response and its request id. It raises KeyError, TypeError or ValueError for a malformed answer.
    `reserve` is the share of the time left that the service is not told of.
    """

    path: str
    media_type: str
    content: bytes
    read: Callable[[httpx.Response, str], Answer]
    reserve: float = 0.0


class Exchange(Generic[Answer]):
    """A question and the attempts to get its answer."""

    def __init__(
        self, question: Question[Answer], request_id: str, policy: RetryPolicy, deadline: float | None
    ) -> None:
        """`deadline` is on `time.monotonic()`; None: no deadline."""
        self.attempts = 0
        self._question = question
        self._request_id, self._policy, self._deadline = request_id, policy, deadline
        self._failure: ClientError | None = None  # of the last attempt
        self._rng = random.Random()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline; None without one. Raises DeadlineError if it has passed."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.expired()
        return left

    def send(self) -> Mapping[str, Any]:
        """Count an attempt; return `url`, `content`, `headers` and `timeout` for httpx. Raises DeadlineError."""
        left = self.seconds_left
        self.attempts += 1
        headers = {"Content-Type": self._question.media_type, "X-Request-Id": self._request_id}
        if left is not None:
            told = int(1000 * left * (1 - self._question.reserve))
            headers["X-Request-Timeout-Ms"] = str(max(1, min(told, MAX_TIMEOUT_MS)))
        connect = CONNECT_SECONDS if left is None else min(left, CONNECT_SECONDS)
        timeout = httpx.Timeout(None if left is None else min(left, MAX_WAIT_SECONDS), connect=connect)
        question = self._question
        return {"url": question.path, "content": question.content, "headers": headers, "timeout": timeout}

    def result(self, response: httpx.Response) -> Answer | float:
        """Return the answer in a response, or the seconds to wait before the next attempt. Raises ClientError."""
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
        """Return the error of a call whose deadline passed here. It names the failure of the attempt before."""
        before = f"; before that: {self._failure}" if self._failure else ""
        return DeadlineError(f"no answer before the deadline of the call{before}", self._request_id, self.attempts)

    def closed(self) -> UnreachableError:
        """Return the error of a call whose client was closed meanwhile."""
        return UnreachableError("the client was closed before the answer came", self._request_id, self.attempts)

    def _wait(self, error: ClientError, retry_after: float | None) -> float:
        """Return how long to wait. Raises the error if no attempt, or no time for one, is left."""
        wait = self._policy.wait_seconds(self.attempts - 1, retry_after, self._rng)
        if wait is None or (self._deadline is not None and time.monotonic() + wait >= self._deadline):
            raise error
        self._failure = error
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

    def _parsed(self, response: httpx.Response) -> Answer:
        try:
            return self._question.read(response, response.headers.get("x-request-id", self._request_id))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise AnswerError(
                f"{response.request.url}: malformed answer ({type(error).__name__}: {error}); expected one of "
                "the relevance service",
                self._request_id,
                self.attempts,
            ) from error


class Call:
    """The requests of one call. One model must answer them all; otherwise all are retried, by the retry policy.

    All carry the id of the call, so that a service with a canary chooses the same model for each of them.
    """

    def __init__(
        self,
        questions: Callable[[], Iterable[Question[ScoreResult]]],
        request_id: str,
        policy: RetryPolicy,
        deadline: float | None,
    ) -> None:
        """`questions` makes the requests, once per attempt. `deadline` is on `time.monotonic()`; None: no deadline."""
        self._questions, self._request_id = questions, request_id
        self._policy, self._deadline = policy, deadline
        self._rounds = 0
        self._rng = random.Random()

    def exchanges(self) -> Iterator[Exchange[ScoreResult]]:
        """Yield all requests of the call."""
        self._rounds += 1
        for question in self._questions():
            yield Exchange(question, self._request_id, self._policy, self._deadline)

    def result(self, parts: Iterable[ScoreResult]) -> ScoreResult | float:
        """Return the result of the call, or the seconds to wait before all are retried. Raises MixedModelsError.

        Stops at the first part from another model.
        """
        taken: list[ScoreResult] = []
        for part in parts:
            taken.append(part)
            if part.model != taken[0].model:
                return self._wait(taken[0].model, part.model)
        return ScoreResult.joined(taken, self._request_id)

    def _wait(self, one: ModelVersion, other: ModelVersion) -> float:
        wait = self._policy.wait_seconds(self._rounds - 1, None, self._rng)
        if wait is None or (self._deadline is not None and time.monotonic() + wait >= self._deadline):
            names = " and ".join(f"{model.name} version {model.version}" for model in (one, other))
            raise MixedModelsError(f"requests of one call were answered by {names}", self._request_id, self._rounds)
        return wait


def deadline_in(seconds: float | None) -> float | None:
    """Return the deadline on `time.monotonic()` after `seconds`; None for no limit."""
    return None if seconds is None else time.monotonic() + seconds
