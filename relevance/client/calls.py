"""What a call of `relevance.client` sends: arguments are checked, requests built, answers read. Does no I/O."""

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from relevance.client.arguments import (
    checked_count,
    checked_pair,
    checked_pairs,
    checked_request_id,
    checked_rows,
    checked_seconds,
    checked_text,
    checked_texts,
    checked_url,
)
from relevance.client.exchange import Call, Exchange, Question, deadline_in, httpx
from relevance.client.feedback import FeedbackEvent, FeedbackResult, feedback_question
from relevance.client.rerank import RerankAnswer, RerankPolicy, RerankResult, checked_budget
from relevance.client.types import BulkScore, ClientError, RetryPolicy, ScoreResult
from relevance.errors import ConfigError
from relevance.tasks import UNKNOWN_LANGUAGE, Pair

SCORE_PATH, BULK_PATH = "v1/score", "v1/score/bulk"
BULK_ROWS = 1000  # per request
CHUNK_BYTES = 1_500_000  # of text per request: the service takes bodies of 2 MiB unless its operator says otherwise
RETURN_SECONDS, RETURN_SHARE = 0.01, 0.1  # of a budget, at most, for the way from the client's answer to its caller
ANSWER_SHARE = 0.1  # of the time left: a partial answer is due so much earlier, for its way back

Body = Mapping[str, Any]
Item = TypeVar("Item")


class Calls:
    """What both clients share: checking a call, and splitting it into requests."""

    def __init__(
        self, base_url: str, timeout_seconds: float | None, max_candidates: int, retry: RetryPolicy | None
    ) -> None:
        self.base_url = _sendable(checked_url(base_url))
        self._timeout_seconds = checked_seconds("timeout_seconds", timeout_seconds)
        self._max_candidates = checked_count("max_candidates", max_candidates)
        self._retry = retry or RetryPolicy()

    def begun(self, bodies: Sequence[Body], timeout_seconds: float | None, request_id: str | None) -> Call:
        """Return a call. Its deadline counts from now."""
        limit = checked_seconds("timeout_seconds", timeout_seconds)
        deadline = deadline_in(self._timeout_seconds if timeout_seconds is None else limit)
        name = checked_request_id(request_id) or uuid.uuid4().hex
        return Call(lambda: map(_score_question, bodies), name, self._retry, deadline)

    def bulk_exchanges(
        self, task: str, pairs: Iterable[Pair], timeout_seconds: float, request_id: str | None
    ) -> Iterator[Exchange[list[BulkScore]]]:
        """Yield the requests of a bulk job. Each is built, and its deadline starts, when it is asked for."""
        limit = checked_seconds("timeout_seconds", timeout_seconds)
        name = checked_request_id(request_id) or uuid.uuid4().hex
        rows = itertools.starmap(checked_pair, zip(checked_rows(pairs), itertools.count(), strict=False))
        chunks = iter(lambda: list(itertools.islice(rows, BULK_ROWS)), [])
        questions = (_bulk_question(task, chunk, number * BULK_ROWS) for number, chunk in enumerate(chunks))
        return (Exchange(question, name, self._retry, deadline_in(limit)) for question in questions)

    def _chunks(self, items: Sequence[Item], bytes_of: Callable[[Item], int]) -> list[list[Item]]:
        """Split into chunks of at most `max_candidates` items and, where one item alone is not more, CHUNK_BYTES.

        No items make one empty chunk, which the service refuses with a reason.
        """
        chunks: list[list[Item]] = [[]]
        room = CHUNK_BYTES
        for item in items:
            size = bytes_of(item)
            if chunks[-1] and (size > room or len(chunks[-1]) == self._max_candidates):
                chunks.append([])
                room = CHUNK_BYTES
            chunks[-1].append(item)
            room -= size
        return chunks

    def candidate_bodies(self, task: str, query: str, candidates: Sequence[str], language: str | None) -> list[Body]:
        """Return the body of each request for one query and its candidates."""
        common = _common(task, query, language)
        return [
            common | {"candidates": chunk} for chunk in self._chunks(checked_texts("candidates", candidates), _bytes)
        ]

    def pair_bodies(self, task: str, pairs: Sequence[Pair]) -> list[Body]:
        """Return the body of each request for pairs."""
        chunks = self._chunks(checked_pairs(pairs), lambda pair: _bytes(pair.query) + _bytes(pair.candidate))
        return [{"task": str(task), "pairs": [_pair(pair) for pair in chunk]} for chunk in chunks]

    def feedback(
        self, request_id: str, events: Sequence[FeedbackEvent], query: str | None, timeout_seconds: float | None
    ) -> Exchange[FeedbackResult]:
        """Return the request that sends feedback on a scored request. Its deadline counts from now."""
        limit = checked_seconds("timeout_seconds", timeout_seconds)
        deadline = deadline_in(self._timeout_seconds if timeout_seconds is None else limit)
        return Exchange(feedback_question(request_id, events, query), uuid.uuid4().hex, self._retry, deadline)

    def rerank(
        self,
        task: str,
        query: str,
        candidates: Sequence[str],
        language: str | None,
        budget_ms: float,
        policy: RerankPolicy,
    ) -> "RerankCall":
        """Return a re-ranking call of the first candidates that fit into one request. Its budget counts from now."""
        budget = checked_budget(budget_ms) / 1000
        deadline = time.monotonic() + budget - min(RETURN_SECONDS, RETURN_SHARE * budget)
        texts = checked_texts("candidates", candidates)
        body = _common(task, query, language) | {"candidates": texts[: self._max_candidates]}
        question = _rerank_question(body, policy.partial)
        return RerankCall(question, uuid.uuid4().hex, self._retry, deadline, policy, len(texts))


@dataclass(frozen=True, slots=True)
class RerankCall:
    """One re-ranking call: its request, its deadline on `time.monotonic()` and how many candidates it has."""

    question: Question[RerankAnswer]
    request_id: str
    retry: RetryPolicy
    deadline: float
    policy: RerankPolicy
    candidates: int

    def exchange(self) -> Exchange[RerankAnswer]:
        """Return the request of the call, to be sent once more."""
        return Exchange(self.question, self.request_id, self.retry, self.deadline)

    def failed(self, error: ClientError) -> RerankResult:
        """Return the result that keeps the order, or raise the error, as the policy says."""
        if self.policy.fallback == "raise":
            raise error
        return RerankResult.kept(error.reason, self.candidates, self.request_id, error)


def _common(task: str, query: str, language: str | None) -> dict[str, Any]:
    found = {"task": str(task), "query": checked_text("query", query)}
    return found | ({"language": checked_text("language", language)} if language else {})


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _sendable(base_url: str) -> str:
    """Return a base URL whose host a request can be sent to. Raises ConfigError."""
    try:
        httpx.URL(base_url).host.encode("idna")  # as the look-up of its address does
    except (httpx.InvalidURL, UnicodeError):
        raise ConfigError(f"base_url {base_url[:80]!r}: the host is malformed; expected http://HOST:PORT") from None
    return base_url


def _score_question(body: Body) -> Question[ScoreResult]:
    count = len(body.get("pairs", body.get("candidates", ())))

    def read(response: httpx.Response, request_id: str) -> ScoreResult:
        found = ScoreResult.from_answer(response.json(), request_id)
        if len(found.scores) != count:
            raise ValueError(f"{len(found.scores)} scores for {count} candidates")
        return found

    return Question(SCORE_PATH, "application/json", _encoded(body), read)


def _rerank_question(body: Body, partial: bool) -> Question[RerankAnswer]:
    count = len(body["candidates"])

    def read(response: httpx.Response, request_id: str) -> RerankAnswer:
        found = RerankAnswer.from_answer(response.json(), request_id)
        if len(found.scores) != count or (None in found.scores and not partial):
            scored = len(found.scores) - found.scores.count(None)
            raise ValueError(f"{scored} scores for {count} candidates")
        return found

    body = {**body, "partial": True} if partial else body
    return Question(SCORE_PATH, "application/json", _encoded(body), read, ANSWER_SHARE if partial else 0.0)


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
