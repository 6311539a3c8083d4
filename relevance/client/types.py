"""The results, errors and retry policy of `relevance.client`. Knows no network."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self

from relevance.errors import ConfigError, RelevanceError
from relevance.tasks import Pair, Task

DETAIL_CHARS = 300  # of a body without problem details, such as a proxy's page
MAX_SECONDS = 1e9  # of a wait
MAX_DOUBLINGS = 64  # of a wait; a float has room for 1,023


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The model that gave the scores. `version` is the digest of its bundle's manifest."""

    name: str
    version: str


def read_score(entry: Mapping[str, Any]) -> float:
    """Return the score of one entry of an answer. Raises KeyError, TypeError or ValueError if it is not in [0, 1]."""
    score = float(entry["score"])
    if not 0 <= score <= 1:
        raise ValueError(f"the score {score:g} is not in [0, 1]")
    return score


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a call: pairs scored, tokens read without padding, and requests sent (chunks, without retries)."""

    pairs: int
    tokens: int
    requests: int


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The scores of one call, in the order of its candidates or pairs.

    `scores` are probabilities in [0, 1]; `labels` are 1 at or above the threshold of the pair's language, else 0;
    `truncated` are the positions, from 0, of pairs longer than the model reads. One model gave all scores of a call
    (`model`): if two models answered its requests, the call was retried or failed.
    """

    task: Task
    scores: tuple[float, ...]
    labels: tuple[int, ...]
    truncated: tuple[int, ...]
    thresholds: Mapping[str, float]
    models: tuple[ModelVersion, ...]
    usage: Usage
    request_id: str

    @property
    def model(self) -> ModelVersion:
        """The model that gave the scores."""
        return self.models[0]

    @property
    def best_first(self) -> tuple[int, ...]:
        """Places from 0, highest score first; equal scores keep their order."""
        return tuple(sorted(range(len(self.scores)), key=lambda place: -self.scores[place]))

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any], request_id: str) -> Self:
        """Read the body of a `/v1/score` answer. Raises KeyError, TypeError or ValueError if it is malformed."""
        scores = answer["scores"]
        return cls(
            task=Task(answer["task"]),
            scores=tuple(map(read_score, scores)),
            labels=tuple(int(each["label"]) for each in scores),
            truncated=tuple(int(place) for place in answer["truncated"]),
            thresholds=dict(answer["thresholds"]),
            models=(ModelVersion(answer["model"]["name"], answer["model"]["version"]),),
            usage=Usage(answer["usage"]["pairs"], answer["usage"]["tokens"], requests=1),
            request_id=request_id,
        )

    @classmethod
    def joined(cls, parts: Sequence[Self], request_id: str) -> Self:
        """Join the results of the requests of one call, in their order."""
        starts = [sum(len(part.scores) for part in parts[:number]) for number in range(len(parts))]
        return cls(
            task=parts[0].task,
            scores=tuple(score for part in parts for score in part.scores),
            labels=tuple(label for part in parts for label in part.labels),
            truncated=tuple(
                start + place for start, part in zip(starts, parts, strict=True) for place in part.truncated
            ),
            thresholds={language: value for part in parts for language, value in part.thresholds.items()},
            models=tuple(dict.fromkeys(model for part in parts for model in part.models)),
            usage=Usage(
                sum(part.usage.pairs for part in parts),
                sum(part.usage.tokens for part in parts),
                sum(part.usage.requests for part in parts),
            ),
            request_id=request_id,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details (RFC 9457) of an error that the service answered with."""

    status: int
    reason: str
    title: str
    detail: str
    errors: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_body(cls, status: int, body: bytes) -> Self:
        """Read the body of an error. A body without problem details (a proxy's page) becomes the detail, shortened."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return cls(status, "unknown", "", body[:DETAIL_CHARS].decode("utf-8", "replace"))
        detail, errors = found.get("detail"), found.get("errors")
        return cls(
            status=status,
            reason=str(found.get("reason", "unknown")),
            title=str(found.get("title", "")),
            detail=detail if isinstance(detail, str) else body[:DETAIL_CHARS].decode("utf-8", "replace"),
            errors=tuple(each for each in (errors if isinstance(errors, list) else ()) if isinstance(each, dict)),
        )


@dataclass(frozen=True, slots=True)
class BulkScore:
    """The result of one row of a bulk job (`row` counts from 0): its score, or its own problem.

    `score`, `label` and `truncated` are as in `ScoreResult`; the first two are None if there is a problem. `version` is
    the model's; it may change from one row to the next if the model was replaced meanwhile.
    """

    row: int
    pair: Pair
    version: str
    score: float | None = None
    label: int | None = None
    truncated: bool = False
    problem: Problem | None = None

    @classmethod
    def from_line(cls, row: int, pair: Pair, version: str, line: Mapping[str, Any]) -> Self:
        """Read a line of a `/v1/score/bulk` answer. Raises KeyError, TypeError or ValueError if it is malformed."""
        if "status" in line:
            problem = Problem(int(line["status"]), str(line["reason"]), title="", detail=str(line["detail"]))
            return cls(row, pair, version, problem=problem)
        return cls(row, pair, version, read_score(line), int(line["label"]), bool(line["truncated"]))


class ClientError(RelevanceError):
    """A call failed. `problem` is set if the service, or a proxy before it, answered with an error.

    `attempts` counts the requests sent for the failed part of the call, with retries.
    """

    exit_code = 5
    reason: ClassVar[str]  # a word for programs; `problem.reason` is the service's own

    def __init__(self, message: str, request_id: str, attempts: int, problem: Problem | None = None) -> None:
        super().__init__(f"{message} (request id {request_id}, attempt {attempts})")
        self.request_id, self.attempts, self.problem = request_id, attempts, problem


class RefusedError(ClientError):
    """The service refused the request (4xx except 429); a retry would not help."""

    reason = "refused"
    exit_code = 2


class OverloadedError(ClientError):
    """429 on every attempt before the deadline."""

    reason = "overloaded"
    retry_after_seconds: float | None = None


class UnavailableError(ClientError):
    """503 on every attempt: the service is loading, draining or broken."""

    reason = "unavailable"
    retry_after_seconds: float | None = None


class DeadlineError(ClientError):
    """The deadline of the call passed, here or in the service (504)."""

    reason = "deadline"


class ServiceFaultError(ClientError):
    """The service answered with another 5xx."""

    reason = "service_fault"


class UnreachableError(ClientError):
    """The connection failed or broke on every attempt."""

    reason = "unreachable"


class AnswerError(ClientError):
    """The answer is not one of this service."""

    reason = "no_answer"


class MixedModelsError(ClientError):
    """Different models answered the requests of one call, on every attempt. Their scores are not comparable.

    This happens while models are switched. Retry the call later.
    """

    reason = "mixed_models"


class CircuitOpenError(ClientError):
    """A re-ranking call was not sent, because the last ones failed (`RerankPolicy.break_after`)."""

    reason = "circuit_open"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when to retry after 429, 503 and broken connections.

    Waits grow exponentially with full jitter: uniform in [0, min(cap, base x 2^n)] before retry n, from 0. The jitter
    is added to a `Retry-After`, so that callers do not retry at the same moment.
    """

    attempts: int = 4
    base_seconds: float = 0.1
    cap_seconds: float = 5.0
    longest_retry_after_seconds: float = 60.0

    def __post_init__(self) -> None:
        seconds = self.base_seconds, self.cap_seconds, self.longest_retry_after_seconds
        if (
            not isinstance(self.attempts, int)
            or self.attempts < 1
            or not all(0 <= each < MAX_SECONDS for each in seconds)
        ):
            raise ConfigError(f"{self}: expected whole attempts, at least 1, and seconds of 0 to {MAX_SECONDS:g}")

    def wait_seconds(self, retry: int, retry_after: float | None, rng: random.Random) -> float | None:
        """Return the wait before retry number `retry`, from 0. None: do not retry."""
        if retry + 1 >= self.attempts or (retry_after or 0) > self.longest_retry_after_seconds:
            return None
        jitter = rng.uniform(0, min(self.cap_seconds, self.base_seconds * 2.0 ** min(retry, MAX_DOUBLINGS)))
        return (retry_after or 0) + jitter


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110). None: missing or malformed."""
    text = (header or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
