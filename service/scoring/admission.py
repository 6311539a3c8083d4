"""Whether a model accepts a request: limits on the request itself, and room in the model's backlog.

Decides before any work is done. Knows neither HTTP nor tokenisation.
"""

import math
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from relevance.tasks import Pair
from service.errors import DeadlineError, InvalidRequestError, OverloadedError, TooLargeError
from service.scheduling.fair_queue import OVERSIZED_FACTOR
from service.settings import Settings

MAX_RETRY_SECONDS = 60
NEARLY_EMPTY = 0.05  # of the limit: a smaller backlog admits any request
# Control characters, and Unicode's default ignorable ones: joiners, direction marks, fillers, selectors, tags.
INVISIBLE = (
    "\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
VISIBLE = re.compile(rf"[^\s,{INVISIBLE}]")  # commas alone are a category path without a level


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names of a request's fields, for error messages. `{}` marks the position."""

    all: str = "pairs"
    query: str = "pairs[{}].query"
    candidate: str = "pairs[{}].candidate"


PAIRS = FieldNames()
CANDIDATES = FieldNames("candidates", "query", "candidates[{}]")


def is_blank(text: str) -> bool:
    """Return whether a text has only white space, commas and invisible characters."""
    return VISIBLE.search(text) is None


def check_pairs(pairs: Sequence[Pair], settings: Settings, names: FieldNames = PAIRS, *, lenient: bool = False) -> None:
    """Raise TooLargeError for pairs over a limit and InvalidRequestError for unreadable text. The message says where.

    `lenient` accepts blank candidates and texts of any length; see `service.api.rerank.documents`.
    """
    if not pairs:
        raise InvalidRequestError(f"`{names.all}` is empty; expected at least one")
    if len(pairs) > settings.max_candidates:
        raise TooLargeError(f"{names.all}: {len(pairs)} of them, expected at most {settings.max_candidates}")
    queries, candidates = dict.fromkeys([pair.query for pair in pairs]), [pair.candidate for pair in pairs]
    max_query = math.inf if lenient else settings.max_query_chars
    max_candidate = math.inf if lenient else settings.max_candidate_chars
    if _all_valid(queries, max_query) and _all_valid(candidates, max_candidate):
        return
    for place, pair in enumerate(pairs):  # a text is invalid: find the first
        _check_text(pair.query, max_query, names.query, place)
        if not (lenient and is_blank(pair.candidate)):
            _check_text(pair.candidate, max_candidate, names.candidate, place)


def _all_valid(texts: Collection[str], limit: float) -> bool:
    """Return whether all texts are valid, at a fraction of the cost of a check of each."""
    return max(map(len, texts)) <= limit and all(map(VISIBLE.search, texts)) and _encodable("\n".join(texts))


def _check_text(text: str, limit: float, name: str, place: int) -> None:
    if len(text) > limit:
        raise TooLargeError(f"{name.format(place)}: {len(text)} characters, expected at most {limit}")
    if is_blank(text):
        raise InvalidRequestError(f"{name.format(place)}: blank, expected text")
    if not _encodable(text):
        raise InvalidRequestError(
            f"{name.format(place)}: half of a surrogate pair (as \\ud800) on its own, expected Unicode text"
        )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class ModelQueue(Protocol):
    """What admission reads from a model's scheduler."""

    @property
    def queued_tokens(self) -> int:
        """Tokens of interactive requests that are admitted and not yet scored."""

    @property
    def backlog_tokens(self) -> int:
        """The same with at most half the target capacity for each oversized request."""

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput; 0 before the first run."""

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens run before a new interactive request of `tokens` tokens is done, without its own."""


class Admits(Protocol):
    """Admits requests to a model: `Admission`, or that of a cascade."""

    @property
    def full(self) -> bool:
        """Whether no request has room, however small."""

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that are queued, or being tokenised."""

    @property
    def limit(self) -> int:
        """How many tokens may be queued, by the recent throughput."""

    @property
    def retry_after_seconds(self) -> int:
        """When to retry: once the present backlog is scored."""

    def reserve(self, tokens: int) -> AbstractContextManager[None]:
        """Count tokens as queued while their request is tokenised."""

    def admit(self, tokens: int, deadline: float) -> None:
        """Raise OverloadedError if `tokens` have no room, DeadlineError if they cannot be scored by `deadline`."""


@dataclass(slots=True)
class Admission:
    """Admits interactive requests while the model can answer them within the target latency.

    A request needs room for twice its own tokens, since newer requests may overtake it while it is scored. So small
    requests are still admitted when a large one would be late. A request that finds a nearly empty backlog is always
    admitted, however large. An oversized one (`OVERSIZED_FACTOR`) then leaves half of the capacity to others.
    """

    queue: ModelQueue
    max_queued_tokens: int
    target_latency_seconds: float
    _reserved: list[int] = field(default_factory=list, init=False)

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that are queued, or being tokenised."""
        return self.queue.queued_tokens + sum(self._reserved)

    @property
    def backlog_tokens(self) -> int:
        """The backlog that a new request is admitted against: an oversized request counts half the limit at most."""
        limit = self.limit
        reserved = sum([each if each <= OVERSIZED_FACTOR * limit else limit // 2 for each in self._reserved])
        return self.queue.backlog_tokens + reserved

    @contextmanager
    def reserve(self, tokens: int) -> Iterator[None]:
        """Count tokens as queued while their request is tokenised."""
        self._reserved.append(tokens)
        try:
            yield
        finally:
            self._reserved.remove(tokens)

    @property
    def limit(self) -> int:
        """How many tokens may be queued, by the recent throughput."""
        speed, most = self.queue.tokens_per_second, self.max_queued_tokens
        return min(most, int(speed * self.target_latency_seconds)) if speed else most

    @property
    def full(self) -> bool:
        """Whether no request has room, however small."""
        queued = self.queued_tokens
        return queued > 0 and (queued >= self.max_queued_tokens or self.backlog_tokens >= self.limit)

    def admit(self, tokens: int, deadline: float) -> None:
        """Raise OverloadedError if `tokens` have no room, DeadlineError if they cannot be scored by `deadline`."""
        ahead, limit, speed = self.backlog_tokens, self.limit, self.queue.tokens_per_second
        queued, capacity = self.queued_tokens, speed * self.target_latency_seconds
        late = bool(speed) and ahead + 2 * tokens > capacity
        if ahead > NEARLY_EMPTY * limit and (late or queued + tokens > self.max_queued_tokens):
            needed_tokens = f"{ahead} queued + 2 x {tokens}" if late else f"{queued} queued + {tokens}"
            most = int(capacity) if late else self.max_queued_tokens
            raise OverloadedError(
                f"queue full: {needed_tokens} requested > {most} tokens", retry_after_seconds=self.retry_after_seconds
            )
        if math.isinf(deadline):
            return
        left, needed = deadline - time.monotonic(), self.needed_seconds(tokens)
        if left <= needed:
            raise DeadlineError(
                f"deadline too close: {1000 * max(0.0, left):.0f} ms left, scoring needs about {1000 * needed:.0f} ms"
            )

    def needed_seconds(self, tokens: int) -> float:
        """Return how long a new request of `tokens` tokens takes, the requests before it included."""
        speed = self.queue.tokens_per_second
        before = self.queue.tokens_before(tokens) + sum([min(each, tokens) for each in self._reserved])
        # Newer requests may overtake it.
        own = 2 * tokens if self.backlog_tokens > NEARLY_EMPTY * self.limit else tokens
        return (before + own) / speed if speed else 0.0

    @property
    def retry_after_seconds(self) -> int:
        """When to retry: once the present backlog is scored."""
        speed = self.queue.tokens_per_second
        seconds = self.backlog_tokens / speed if speed else 1.0
        return max(1, math.ceil(min(seconds, MAX_RETRY_SECONDS)))
