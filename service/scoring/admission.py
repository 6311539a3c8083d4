"""What a request must keep before any work is done for it: limits of its own, and room at its model."""

import math
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from relevance.tasks import Pair
from service.errors import DeadlineError, InvalidRequestError, OverloadedError, TooLargeError
from service.scheduling.fair_queue import OVERSIZED
from service.scheduling.scheduler import Scheduler
from service.settings import Settings

LONGEST_RETRY_SECONDS = 60
NEXT_TO_NOTHING = 0.05  # of the limit
# Control characters, and what Unicode calls default ignorable: joiners, direction marks, fillers, selectors, tags.
INVISIBLE = (
    "\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
SOMETHING = re.compile(rf"[^\s,{INVISIBLE}]")  # commas alone are a category path without a level


@dataclass(frozen=True, slots=True)
class Names:
    """What a request's texts are called in its own shape; `{}` stands for the place."""

    all: str = "pairs"
    query: str = "pairs[{}].query"
    candidate: str = "pairs[{}].candidate"


PAIRS = Names()
CANDIDATES = Names("candidates", "query", "candidates[{}]")


def is_blank(text: str) -> bool:
    """Say whether a text has nothing to read: only white space, commas and characters that are not seen."""
    return SOMETHING.search(text) is None


def check(pairs: Sequence[Pair], settings: Settings, names: Names = PAIRS, *, lenient: bool = False) -> None:
    """Raise TooLargeError over a limit and InvalidRequestError for text that is none, naming place and limit.

    `lenient` lets blank candidates and texts of any length pass; see `service.api.rerank.documents`.
    """
    if not pairs:
        raise InvalidRequestError(f"`{names.all}` is empty; expected at least one")
    if len(pairs) > settings.max_candidates:
        raise TooLargeError(f"{names.all}: {len(pairs)} of them, expected at most {settings.max_candidates}")
    queries, candidates = dict.fromkeys([pair.query for pair in pairs]), [pair.candidate for pair in pairs]
    most_query = math.inf if lenient else settings.max_query_chars
    most_candidate = math.inf if lenient else settings.max_candidate_chars
    if _fine(queries, most_query) and _fine(candidates, most_candidate):
        return
    for place, pair in enumerate(pairs):  # something is wrong: find the first place
        _check_text(pair.query, most_query, names.query, place)
        if not (lenient and is_blank(pair.candidate)):
            _check_text(pair.candidate, most_candidate, names.candidate, place)


def _fine(texts: Collection[str], limit: float) -> bool:
    """Say whether texts are all right, at a fraction of the cost of looking at each."""
    return max(map(len, texts)) <= limit and all(map(SOMETHING.search, texts)) and _encodable("\n".join(texts))


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


@dataclass(slots=True)
class Gate:
    """Lets interactive requests in while the model can answer them in time.

    A request needs room for its own tokens twice, since newer ones may overtake it while it is scored: so small
    requests are still let in where a large one would come late. One that finds next to nothing waiting is always let
    in, however large; one that takes over twice the target latency alone then leaves half of the room to others.
    """

    scheduler: Scheduler
    max_queued_tokens: int
    target_latency_seconds: float
    _reserved: list[int] = field(default_factory=list, init=False)

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait for the model, or for the tokeniser before it."""
        return self.scheduler.queued_tokens + sum(self._reserved)

    @property
    def tokens_ahead(self) -> int:
        """Those of them that a newcomer must leave time for."""
        limit = self.limit
        reserved = sum([each if each <= OVERSIZED * limit else limit // 2 for each in self._reserved])
        return self.scheduler.tokens_ahead + reserved

    @contextmanager
    def reserve(self, tokens: int) -> Iterator[None]:
        """Count tokens as waiting while their request is tokenised."""
        self._reserved.append(tokens)
        try:
            yield
        finally:
            self._reserved.remove(tokens)

    @property
    def limit(self) -> int:
        """How many tokens may wait, by the speed of late."""
        speed, most = self.scheduler.tokens_per_second, self.max_queued_tokens
        return min(most, int(speed * self.target_latency_seconds)) if speed else most

    @property
    def full(self) -> bool:
        """Whether not even the smallest request has room."""
        queued = self.queued_tokens
        return queued > 0 and (queued >= self.max_queued_tokens or self.tokens_ahead >= self.limit)

    def admit(self, tokens: int, deadline: float) -> None:
        """Raise OverloadedError where tokens have no room, DeadlineError where they cannot be scored by `deadline`."""
        ahead, limit, speed = self.tokens_ahead, self.limit, self.scheduler.tokens_per_second
        late = bool(speed) and ahead + 2 * tokens > speed * self.target_latency_seconds
        if ahead > NEXT_TO_NOTHING * limit and (late or self.queued_tokens + tokens > self.max_queued_tokens):
            raise OverloadedError(
                f"{ahead} tokens wait and this request has about {tokens}; expected at most {limit} with its own "
                "counted twice",
                retry_after_seconds=self.retry_after_seconds,
            )
        if math.isinf(deadline):
            return
        left = deadline - time.monotonic()
        before = self.scheduler.tokens_before(tokens) + sum([min(each, tokens) for each in self._reserved])
        own = 2 * tokens if ahead > NEXT_TO_NOTHING * limit else tokens  # newer requests may overtake it
        needed = (before + own) / speed if speed else 0.0
        if left <= needed:
            raise DeadlineError(
                f"{1000 * max(0.0, left):.0f} ms are left of the time given and scoring would take about "
                f"{1000 * needed:.0f} ms"
            )

    @property
    def retry_after_seconds(self) -> int:
        """When to come back: once what waits now is scored."""
        speed = self.scheduler.tokens_per_second
        seconds = self.tokens_ahead / speed if speed else 1.0
        return max(1, math.ceil(min(seconds, LONGEST_RETRY_SECONDS)))
