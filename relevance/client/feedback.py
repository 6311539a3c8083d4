"""Feedback on a scored request, as `feedback()` of the clients sends it, and the answer. Does no I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from relevance.client.arguments import checked_request_id, checked_text
from relevance.client.exchange import Question, httpx
from relevance.errors import ConfigError
from relevance.feedback import FeedbackType

FEEDBACK_PATH = "v1/feedback"


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """What a user or a judge did with one candidate of a scored request.

    The candidate is its place in the request (`index`, from 0) or its text as it was scored (`candidate`). `position`
    is where the user saw it, from 0; None: as the answer ranked it. A judgement has a `grade`, a number or a word, and
    may name its `annotator`. Raises ConfigError for a type or a combination that the service does not take.
    """

    type: Literal["shown", "click", "judgement"]
    index: int | None = None
    candidate: str | None = None
    position: int | None = None
    grade: float | str | None = None
    annotator: str | None = None

    def __post_init__(self) -> None:
        if self.type not in set(FeedbackType):
            raise ConfigError(f"type {self.type!r}: expected {', '.join(FeedbackType)}")
        if (self.index is None) == (self.candidate is None):
            raise ConfigError(
                f"index {self.index!r} and candidate {self.candidate!r}: expected one of them, to name the candidate"
            )
        if (self.grade is not None) != (self.type == "judgement"):
            raise ConfigError(f"grade {self.grade!r} with type {self.type!r}: expected a grade for a judgement only")
        if self.annotator is not None and self.type != "judgement":
            fault = "expected an annotator for a judgement only"
            raise ConfigError(f"annotator {self.annotator!r} with type {self.type!r}: {fault}")

    def body(self) -> dict[str, Any]:
        """Return the event as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of the events: how many are logged, and whether the request is in the logged share at all."""

    logged: int
    sampled: bool

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Read the body of an answer. Raises KeyError, TypeError or ValueError if it is malformed."""
        return cls(logged=int(answer["logged"]), sampled=bool(answer["sampled"]))


def feedback_question(request_id: str, events: Sequence[FeedbackEvent], query: str | None) -> Question[FeedbackResult]:
    """Return the request that sends events. Raises ConfigError."""
    if checked_request_id(request_id) is None:
        raise ConfigError("request_id None: expected that of the scored request, `request_id` of its result")
    if not events or not all(isinstance(event, FeedbackEvent) for event in events):
        raise ConfigError("events: expected at least one FeedbackEvent, and nothing else")
    body: dict[str, Any] = {"request_id": request_id, "events": [event.body() for event in events]}
    if query is not None:
        body["query"] = checked_text("query", query)

    def read(response: httpx.Response, _: str) -> FeedbackResult:
        return FeedbackResult.from_answer(response.json())

    return Question(FEEDBACK_PATH, "application/json", json.dumps(body).encode(), read)
