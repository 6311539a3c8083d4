"""A re-ranking call of `relevance.client`: its policy, its result and the counts of results. Knows no network."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar, get_args

from relevance.client.types import ClientError, ModelVersion, read_score
from relevance.errors import ConfigError

Fallback = Literal["raise", "keep_order"]

RERANKED, PARTIAL, NO_CANDIDATES = "reranked", "partial", "no_candidates"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RerankPolicy:
    """What a re-ranking call does when the service is slow or away.

    `fallback`: without an answer, `raise` the ClientError or `keep_order` of the candidates. `partial`: accept an
    answer for the first candidates alone. `hedge_ms`: send the request a second time if it is not answered by then.
    After `break_after` failed calls in a row, calls fail at once (CircuitOpenError) for `break_seconds`, then one call
    tries again; 0 switches this off.
    """

    fallback: Fallback = "raise"
    partial: bool = False
    hedge_ms: float | None = None
    break_after: int = 5
    break_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.fallback not in get_args(Fallback):
            raise ConfigError(f"fallback {self.fallback!r}: expected 'raise' or 'keep_order'")
        if not isinstance(self.partial, bool):
            raise ConfigError(f"partial {self.partial!r}: expected True or False")
        if self.hedge_ms is not None:
            _checked_number("hedge_ms", self.hedge_ms, "milliseconds above 0, or None for no second request")
        if isinstance(self.break_after, bool) or not isinstance(self.break_after, int) or self.break_after < 0:
            raise ConfigError(f"break_after {self.break_after!r}: expected a whole number, 0 or more")
        _checked_number("break_seconds", self.break_seconds, "seconds above 0")


@dataclass(frozen=True, slots=True)
class RerankResult:
    """The order of one call's candidates, and whether it is a new one.

    `order` has the position, from 0, of every candidate, best first. `scores` are in the order of the candidates: a
    probability in [0, 1], or None for a candidate without one; the positions of those are `unscored`, and they follow
    the scored ones in their own order. If `reranked` is False, `order` is that of the candidates, no candidate has a
    score, and `reason` says why (docs/client.md lists the reasons); `error` is the error behind it.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...]
    reranked: bool
    reason: str | None
    request_id: str
    model: ModelVersion | None = None
    error: ClientError | None = field(default=None, compare=False)

    @property
    def unscored(self) -> tuple[int, ...]:
        """The positions of candidates without a score."""
        return tuple(place for place, score in enumerate(self.scores) if score is None)

    @property
    def outcome(self) -> str:
        """`reranked`, `partial` if some candidates have no score, or the reason why the order was kept."""
        return self.reason or (PARTIAL if None in self.scores else RERANKED)

    def reorder(self, items: Sequence[Item]) -> list[Item]:
        """Return items that were given in the order of the candidates, best first."""
        if len(items) != len(self.order):
            raise ConfigError(f"items: {len(items)} of them, expected {len(self.order)}, one for each candidate")
        return [items[place] for place in self.order]

    @classmethod
    def of(cls, answer: "RerankAnswer", candidates: int) -> Self:
        """Return the result for an answer to the first of so many candidates."""
        scores = answer.scores + (None,) * (candidates - len(answer.scores))
        order = sorted(range(candidates), key=lambda place: _last_if_none(scores[place]))
        return cls(tuple(order), scores, True, None, answer.request_id, answer.model)

    @classmethod
    def kept(cls, reason: str, candidates: int, request_id: str, error: ClientError | None = None) -> Self:
        """Return the result that keeps the order of so many candidates."""
        return cls(tuple(range(candidates)), (None,) * candidates, False, reason, request_id, None, error)


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    """An answer of `/v1/score` that may be partial: the scores of the candidates that were sent, or None."""

    scores: tuple[float | None, ...]
    model: ModelVersion
    request_id: str

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any], request_id: str) -> Self:
        """Read the body of an answer. Raises KeyError, TypeError or ValueError if it is malformed."""
        scores = tuple(None if each is None else read_score(each) for each in answer["scores"])
        return cls(scores, ModelVersion(answer["model"]["name"], answer["model"]["version"]), request_id)


@dataclass(frozen=True, slots=True)
class RerankStats:
    """How the re-ranking calls of a client ended since it was made, by outcome, and how many requests were hedged.

    An outcome is `reranked`, `partial`, `no_candidates`, or the reason why there is no new order.
    """

    outcomes: Mapping[str, int]
    hedges: int

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(self.outcomes.values())

    @property
    def fallbacks(self) -> int:
        """The calls that had candidates and got no new order: the order was kept, or an error raised."""
        return self.calls - sum(self.outcomes[name] for name in (RERANKED, PARTIAL, NO_CANDIDATES))


class RerankCounter:
    """Counts the re-ranking calls of one client. Used on its event loop; `stats` may be read on any thread."""

    def __init__(self) -> None:
        reasons = [each.reason for each in ClientError.__subclasses__()]
        self._outcomes = Counter(dict.fromkeys([RERANKED, PARTIAL, NO_CANDIDATES, *reasons], 0))
        self.hedges = 0

    def count(self, outcome: str) -> None:
        """Count a call."""
        self._outcomes[outcome] += 1

    @property
    def stats(self) -> RerankStats:
        """The counts so far."""
        return RerankStats(dict(self._outcomes), self.hedges)


def checked_budget(budget_ms: float) -> float:
    """Return a budget in milliseconds. Raises ConfigError."""
    return _checked_number("budget_ms", budget_ms, "milliseconds above 0")


def _checked_number(name: str, value: float, expected: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max
    if not good:
        raise ConfigError(f"{name} {value!r}: expected {expected}")
    return float(value)


def _last_if_none(score: float | None) -> float:
    return math.inf if score is None else -score
