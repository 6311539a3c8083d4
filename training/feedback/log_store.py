"""A feedback log in a temporary database, its events joined with the candidates that they are of.

The database is a file: memory stays bounded, whatever the log's size. An event belongs to the lists with its request
id. Where several of these have its candidate, as after a retry, the newest list before the event counts; where they
have different queries or candidates, the event is a bad line.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from relevance.errors import InputError
from relevance.feedback import FeedbackLine, ScoresLine
from relevance.storage.files import writing
from training.data.rows import BadRow, Problem
from training.feedback.bad_lines import BadLines
from training.feedback.log_lines import log_lines

_TABLES = """
CREATE TABLE lists (id INTEGER PRIMARY KEY, request TEXT, task TEXT, query TEXT, language TEXT, time REAL,
    version TEXT, challenger TEXT, file TEXT, row INTEGER);
CREATE TABLE candidates (id INTEGER PRIMARY KEY, list INTEGER, place INTEGER, hash TEXT, rank INTEGER,
    returned INTEGER, team TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, request TEXT, type TEXT, place INTEGER, hash TEXT, query TEXT, time REAL,
    grade TEXT, annotator TEXT, file TEXT, row INTEGER, raw TEXT);
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;
CREATE TABLE joined (event INTEGER PRIMARY KEY, list INTEGER, candidate INTEGER);
CREATE TABLE unmatched (event INTEGER PRIMARY KEY);
"""
_INDEXES = """
CREATE INDEX lists_of_request ON lists (request);
CREATE INDEX candidates_of_list ON candidates (list);
"""
# By index, an event names one candidate of a list; by hash perhaps several equal ones, of which the first counts.
_MATCHES = """
SELECT e.id, e.time, l.id, l.time, MIN(c.id), l.query, c.hash, l.language FROM events e
LEFT JOIN lists l ON l.request = e.request AND (e.query IS NULL OR l.query = e.query)
LEFT JOIN candidates c ON c.list = l.id AND (c.place = e.place OR c.hash = e.hash)
GROUP BY e.id, l.id ORDER BY e.id, l.time, l.id
"""


class LogStore:
    """The lists, candidates and events of a log. `bad` has the lines that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN; {_TABLES}")
        self.bad = BadLines(self.database)
        self.total = 0

    def read(self, folder: Path) -> None:
        """Read all lines of a log and join its events. InputError where there is no line."""
        for name, number, raw, line in log_lines(folder):
            self.total += 1
            if isinstance(line, BadRow):
                self.bad.add(line)
            elif isinstance(line, ScoresLine):
                self._add_list(line, name, number)
            else:
                self._add_event(line, name, number, raw)
        if not self.total:
            raise InputError(f"{folder}: holds no lines; expected those of a feedback log")
        self.database.executescript(f"{_INDEXES} BEGIN;")
        self._join()

    def add_texts(self, texts: Iterator[tuple[str, str]]) -> None:
        """Add texts by their hashes."""
        self.database.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", texts)

    def count(self, what: str, *values: object) -> int:
        """Return how many rows a `FROM ... WHERE ...` has."""
        return int(self.database.execute(f"SELECT count(*) FROM {what}", values).fetchone()[0])

    def unmatched(self) -> Iterator[dict[str, object]]:
        """Yield the lines of events whose request is not in the log."""
        for (raw,) in self.database.execute("SELECT raw FROM events JOIN unmatched ON event = id ORDER BY id"):
            yield json.loads(raw)

    def _add_list(self, line: ScoresLine, name: str, row: int) -> None:
        given = (line.request_id, line.task.value, line.query_hash, line.language, line.time.timestamp())
        insert = "INSERT INTO lists VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        number = self.database.execute(insert, (*given, line.version, line.challenger, name, row)).lastrowid
        order = sorted(line.candidates, key=lambda each: -each.score)  # what /v1/score answers, its caller ranks
        ranks = {each.index: rank for rank, each in enumerate(order)}
        self.database.executemany(
            "INSERT INTO candidates VALUES (NULL, ?, ?, ?, ?, ?, ?)",
            (
                (number, each.index, each.hash, *_rank(line, each.position, ranks[each.index]), each.team)
                for each in line.candidates
            ),
        )
        texts = [(each.hash, each.text) for each in line.candidates] + [(line.query_hash, line.query)]
        self.add_texts((key, text) for key, text in texts if text is not None)

    def _add_event(self, line: FeedbackLine, name: str, number: int, raw: str) -> None:
        grade = None if line.grade is None else json.dumps(line.grade)
        given = (line.request_id, line.type.value, line.index, line.hash, line.query_hash, line.time.timestamp())
        insert = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self.database.execute(insert, (*given, grade, line.annotator, name, number, raw))

    def _join(self) -> None:
        cursor = self.database.cursor()
        for event, matches in groupby(self.database.execute(_MATCHES), key=lambda row: row[0]):
            lists = [match for match in matches if match[2] is not None]
            found = [match for match in lists if match[4] is not None]
            if not lists:
                cursor.execute("INSERT INTO unmatched VALUES (?)", (event,))
            elif len({match[5:] for match in found}) == 1:
                before = [match for match in found if match[3] <= match[1]]
                chosen = before[-1] if before else found[0]
                cursor.execute("INSERT INTO joined VALUES (?, ?, ?)", (event, chosen[2], chosen[4]))
            else:
                self._refuse(event, len(found))

    def _refuse(self, event: int, found: int) -> None:
        """Keep an event whose candidate is none of its request's, or one of several, as a bad line."""
        find = "SELECT file, row, raw, place, hash FROM events WHERE id = ?"
        name, row, raw, place, key = self.database.execute(find, (event,)).fetchone()
        field, value = ("index", place) if key is None else ("hash", key)
        if found:
            kind, expected = "ambiguous candidate", f"one candidate; {found} lists have it: send `query` or `candidate`"
        else:
            kind, expected = "unknown candidate", "a candidate of the request"
        self.bad.add(BadRow(name, row, (Problem(kind, field, value, expected),), raw))


@contextmanager
def opened(folder: Path, beside: Path | None = None) -> Iterator[LogStore]:
    """Read a log into a database beside an output, which is removed in the end. MachineError on a full disk."""
    place = None if beside is None or not beside.parent.is_dir() else beside.parent
    with tempfile.TemporaryDirectory(prefix=".from-logs-", dir=place) as temporary:
        path = Path(temporary) / "log.sqlite"
        with writing(path):
            store = LogStore(path)
            try:
                store.read(folder)
                yield store
            finally:
                store.database.close()


def _rank(line: ScoresLine, position: int | None, by_score: int) -> tuple[int, int]:
    """Return the rank of a candidate for the user, and whether it was in the answer."""
    if not line.ranked:
        return by_score, 1
    return (len(line.candidates), 0) if position is None else (position, 1)
