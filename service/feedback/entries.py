"""What a request adds to the feedback log, and its lines. Made on the event loop, turned into lines on the writer's
thread.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from relevance.feedback import SCHEMA, FeedbackType, Kind, Team, hash_of
from relevance.tasks import Pair, Task

PAIR_CHARACTERS = 200  # what a pair takes in memory beside its text
Texts = Literal["none", "candidates", "all"]


class Entry(Protocol):
    """Something to log. `size` is about the number of characters that it keeps in memory."""

    @property
    def kind(self) -> Kind:
        """The kind of its lines."""

    @property
    def size(self) -> int:
        """About how many characters it keeps in memory."""

    def lines(self, key: bytes, texts: Texts) -> bytes:
        """Return its lines, texts hashed with `key`, and in words as far as `texts` says."""


def now() -> datetime:
    """Return the time of an entry."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """Which request was scored, and by what. `challenger` is the version that the answer was interleaved with."""

    request_id: str
    task: Task
    model: str
    version: str
    challenger: str | None = None


@dataclass(frozen=True, slots=True)
class ScoresEntry:
    """The scores [N] and labels [N] of a request's pairs.

    `order` has the places of the pairs in a ranked answer, best first; None: the answer was not ranked. `teams` [N]
    says whose pick each pair of an interleaved answer is.
    """

    source: Source
    pairs: Sequence[Pair]
    scores: Sequence[float]
    labels: Sequence[int]
    order: Sequence[int] | None = None
    teams: Sequence[Team | None] | None = None
    time: datetime = field(default_factory=now)
    kind = Kind.SCORES

    @property
    def size(self) -> int:
        """About how many characters it keeps in memory."""
        queries = {id(pair.query): len(pair.query) for pair in self.pairs}  # most requests have one query
        return sum(queries.values()) + sum([len(pair.candidate) + PAIR_CHARACTERS for pair in self.pairs])

    def lines(self, key: bytes, texts: Texts) -> bytes:
        """Return one line for each query and language, hashed with `key`, and in words as far as `texts` says."""
        groups: dict[tuple[str, str], list[int]] = {}
        for index, pair in enumerate(self.pairs):
            if math.isnan(self.scores[index]):  # a partial answer left it out
                continue
            groups.setdefault((pair.query, pair.language), []).append(index)
        positions = {index: position for position, index in enumerate(self.order or ())}
        return b"".join(self._line(group, positions, key, texts) for group in groups.values())

    def _line(self, group: Sequence[int], positions: Mapping[int, int], key: bytes, texts: Texts) -> bytes:
        source, first = self.source, self.pairs[group[0]]
        line: dict[str, Any] = {
            "kind": Kind.SCORES,
            "schema": SCHEMA,
            "time": self.time.isoformat(timespec="milliseconds"),
            "request_id": source.request_id,
            "task": source.task,
            "model": source.model,
            "version": source.version,
            "challenger": source.challenger,
            "query_hash": hash_of(first.query, key),
            "query": first.query if texts == "all" else None,
            "language": first.language,
            "ranked": self.order is not None,
        }
        return json_line(line | {"candidates": [self._candidate(index, positions, key, texts) for index in group]})

    def _candidate(self, index: int, positions: Mapping[int, int], key: bytes, texts: Texts) -> dict[str, Any]:
        text = self.pairs[index].candidate
        found = {
            "index": index,
            "hash": hash_of(text, key),
            "text": None if texts == "none" else text,
            "score": self.scores[index],
            "label": self.labels[index],
            "position": positions.get(index),
            "team": None if self.teams is None else self.teams[index],
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Event:
    """What a user or a judge did with a candidate: see `relevance.feedback.FeedbackLine`."""

    type: FeedbackType
    index: int | None = None
    candidate: str | None = None
    position: int | None = None
    grade: float | str | None = None
    annotator: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """The events of one call. `query` says which query of the request is meant, where it has several."""

    request_id: str
    query: str | None
    events: Sequence[Event]
    time: datetime = field(default_factory=now)
    kind = Kind.FEEDBACK

    @property
    def size(self) -> int:
        """About how many characters it keeps in memory."""
        return len(self.query or "") + sum(len(event.candidate or "") + PAIR_CHARACTERS for event in self.events)

    def lines(self, key: bytes, texts: Texts) -> bytes:
        """Return one line for each event. Texts are hashed: those of the request are in its own lines."""
        del texts
        query_hash = None if self.query is None else hash_of(self.query, key)
        return b"".join(self._line(event, query_hash, key) for event in self.events)

    def _line(self, event: Event, query_hash: str | None, key: bytes) -> bytes:
        found = {
            "kind": Kind.FEEDBACK,
            "schema": SCHEMA,
            "time": self.time.isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "type": event.type,
            "index": event.index,
            "hash": None if event.candidate is None else hash_of(event.candidate, key),
            "query_hash": query_hash,
            "position": event.position,
            "grade": event.grade,
            "annotator": event.annotator,
        }
        return json_line({name: value for name, value in found.items() if value is not None})


def json_line(line: Mapping[str, Any]) -> bytes:
    """Return a line of JSON in UTF-8; of half a surrogate pair, which UTF-8 does not have, in ASCII."""
    try:
        return (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(line, separators=(",", ":")) + "\n").encode()
