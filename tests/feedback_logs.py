"""Writes feedback logs as the service does, without a service: lists of candidates, and events on them."""

from pathlib import Path

from relevance.feedback import FeedbackType, Team
from relevance.tasks import Pair, Task
from service.feedback.entries import Entry, Event, FeedbackEntry, ScoresEntry, Source
from service.feedback.hash_key import prepare

SHOWN, CLICK, JUDGEMENT = FeedbackType.SHOWN, FeedbackType.CLICK, FeedbackType.JUDGEMENT


class Log:
    """A folder with one file of the log, `feedback-1.jsonl`, that grows with each call."""

    def __init__(self, folder: Path, texts: str = "all", task: Task = Task.QC) -> None:
        self.folder, self.texts, self.task = folder, texts, task
        self.key = prepare(folder)
        self.file = folder / "feedback-1.jsonl"

    def scores(self, request: str, query: str, candidates: list[str], **given: object) -> None:
        """Add a list in the order of its answer. `language`, `teams` (letters a and c) and `ranked` may be given."""
        pairs = [Pair(query, candidate, given.get("language", "en")) for candidate in candidates]
        teams = [Team.CHALLENGER if letter == "c" else Team.ACTIVE for letter in given.get("teams", "")] or None
        source = Source(request, self.task, "model", "v1", "v2" if teams else None)
        scores = [1 - place / 1000 for place in range(len(pairs))]
        order = list(range(len(pairs))) if given.get("ranked", True) else None
        self.add(ScoresEntry(source, pairs, scores, [1] * len(pairs), order, teams))

    def events(self, request: str, *events: Event, query: str | None = None) -> None:
        """Add the events of one call."""
        self.add(FeedbackEntry(request, query, events))

    def clicks(self, request: str, *places: int) -> None:
        """Add clicks on the candidates at these places."""
        self.events(request, *(Event(CLICK, index=place) for place in places))

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        self.raw(entry.lines(self.key, self.texts))

    def raw(self, lines: bytes) -> None:
        """Add any bytes."""
        with self.file.open("ab") as file:
            file.write(lines)
