"""From the lists and events of a log to training rows: one row for each query, candidate and language.

Clicks. A list is one impression of each candidate that it showed, and at most one click of it. Without `shown` events
it is unknown how far the user looked; the default follows Joachims (2002, Optimizing search engines using clickthrough
data): who clicks on a candidate has seen those above it. Lists without a click then say nothing. Clicks and impressions
become a target as everywhere (training.data.labels.clicks).

Judgements. The target is the mean share of the grades; a judgement outweighs the clicks of its row. Without an
annotator, equal grades of one list are one judgement, since calls may be repeated.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from relevance.tasks import Pair, Task
from training.data.files.columns import QUERY_FIELD
from training.data.labels.clicks import CLICKS, IMPRESSIONS, BetaPrior, with_rate
from training.data.labels.grades import Grades, label_of
from training.data.labels.weights import HALF, LABEL_CUT, LABEL_SHARE, LABEL_VOTES, LABEL_WEIGHT
from training.data.rows import UNKNOWN_GRADE, BadRow, Problem, Row
from training.feedback.log_store import LogStore
from training.feedback.options import LogOptions, Shown

SOURCE = "feedback"
_EXTRAS = (CLICKS, IMPRESSIONS, LABEL_SHARE, LABEL_WEIGHT, LABEL_VOTES, LABEL_CUT)
# A pair is known by its texts where the log or the user has them, so that logs with different hash keys agree.
_NAMED = """
COALESCE(q.text, l.query) AS query, q.text IS NOT NULL AS query_known,
COALESCE(t.text, c.hash) AS candidate, t.text IS NOT NULL AS candidate_known, l.language AS language
"""
_TEXTS = "LEFT JOIN texts q ON q.hash = l.query LEFT JOIN texts t ON t.hash = c.hash"
_TABLES = """
CREATE TABLE marks AS SELECT j.list, j.candidate, MAX(e.type = 'click') AS clicked, MAX(e.type = 'shown') AS shown
    FROM joined j JOIN events e ON e.id = j.event WHERE e.type IN ('click', 'shown') GROUP BY j.candidate;
CREATE UNIQUE INDEX mark_of_candidate ON marks (candidate);
CREATE TABLE depths AS SELECT m.list, MAX(m.shown) AS reported, MAX(CASE WHEN m.clicked THEN c.rank END) AS depth
    FROM marks m JOIN candidates c ON c.id = m.candidate GROUP BY m.list;
CREATE UNIQUE INDEX depth_of_list ON depths (list);
CREATE TABLE pairs (query TEXT, query_known INTEGER, candidate TEXT, candidate_known INTEGER, language TEXT,
    first INTEGER, clicks INTEGER, impressions INTEGER, PRIMARY KEY (query, candidate, language)) WITHOUT ROWID;
CREATE TABLE votes (query TEXT, candidate TEXT, language TEXT, voter TEXT, share REAL,
    PRIMARY KEY (query, candidate, language, voter)) WITHOUT ROWID;
"""
_WAS_SHOWN = {
    Shown.EXAMINED: "CASE WHEN d.reported THEN m.candidate IS NOT NULL ELSE c.rank <= d.depth END",
    Shown.REPORTED: "d.reported AND m.candidate IS NOT NULL",
    Shown.RETURNED: "c.returned OR m.candidate IS NOT NULL",
}
# The inner query counts a candidate that a list has twice once.
_COUNT = """
INSERT INTO pairs SELECT query, MAX(query_known), candidate, MAX(candidate_known), language, MIN(first), SUM(clicked),
    COUNT(*) FROM (
        SELECT {named}, MIN(c.id) AS first, MAX(COALESCE(m.clicked, 0)) AS clicked
        FROM candidates c JOIN lists l ON l.id = c.list AND l.task = ? {texts}
        LEFT JOIN marks m ON m.candidate = c.id LEFT JOIN depths d ON d.list = c.list
        WHERE {shown} GROUP BY c.list, 3
    ) GROUP BY query, candidate, language
"""
_JUDGED = f"""
SELECT {_NAMED}, c.id, COALESCE('by ' || e.annotator, 'in ' || l.id || ' ' || e.grade), e.grade, e.file, e.row, e.raw
FROM joined j JOIN events e ON e.id = j.event AND e.type = 'judgement' JOIN lists l ON l.id = j.list AND l.task = ?
JOIN candidates c ON c.id = j.candidate {_TEXTS} ORDER BY e.time, e.id
"""
_USED = """
FROM pairs p LEFT JOIN (
    SELECT query, candidate, language, COUNT(*) AS count, AVG(share) AS mean FROM votes GROUP BY 1, 2, 3
) v ON v.query = p.query AND v.candidate = p.candidate AND v.language = p.language
{further} WHERE (v.count IS NOT NULL OR p.impressions >= ?) AND {known} (p.query_known AND p.candidate_known)
ORDER BY p.first
"""
_ROWS = "SELECT p.query, p.candidate, p.language, p.clicks, p.impressions, v.count, v.mean" + _USED.format(
    further="", known=""
)
_UNKNOWN = "SELECT l.file, l.row, p.query, p.query_known, p.candidate, p.candidate_known" + _USED.format(
    further="JOIN candidates c ON c.id = p.first JOIN lists l ON l.id = c.list", known="NOT"
)


class LogRows:
    """The rows of one task. Grades that have no share, and texts that are unknown, become bad lines of the store."""

    def __init__(self, store: LogStore, task: Task, options: LogOptions) -> None:
        self._store, self._task, self._options = store, task, options
        self._grades = None if options.grades is None else Grades.parse(options.grades)
        store.database.executescript(_TABLES)
        store.database.execute("BEGIN")
        counting = _COUNT.format(named=_NAMED, texts=_TEXTS, shown=_WAS_SHOWN[options.shown])
        store.database.execute(counting, (task.value,))
        self._judge()
        self._note_unknown_texts()

    @cached_property
    def prior(self) -> BetaPrior | None:
        """The prior of click-through rates, fitted if it was not given; None: no row has impressions.

        InputError where it cannot be fitted.
        """
        least = self._options.min_impressions
        if not self._store.count("pairs WHERE impressions >= ?", least):
            return None
        find = "SELECT clicks, impressions FROM pairs WHERE impressions >= ?"
        return BetaPrior.parse(self._options.clicks) or BetaPrior.fitted(self._store.database.execute(find, (least,)))

    @property
    def example(self) -> dict[str, Any]:
        """A record with a value in every column: it says what the columns of a table hold."""
        extra = {CLICKS: 1, IMPRESSIONS: 2, LABEL_SHARE: 0.5, LABEL_WEIGHT: 0.5, LABEL_VOTES: 2, LABEL_CUT: 0.5}
        return self._record(Pair("query", "candidate", "en"), 1, extra)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, in the order in which their pairs first occur."""
        prior = self.prior
        found = self._store.database.execute(_ROWS, (self._options.min_impressions,))
        for number, (query, candidate, language, clicks, impressions, votes, share) in enumerate(found, 1):
            pair, counts = Pair(query, candidate, language), {CLICKS: clicks, IMPRESSIONS: impressions}
            if votes is None:
                row = with_rate(Row(pair, None, "", number, counts), prior)
                yield self._record(pair, row.label, row.extra)
            else:
                yield self._record(pair, int(share >= HALF), counts | {LABEL_SHARE: share, LABEL_VOTES: votes})

    def _record(self, pair: Pair, label: int | None, extra: dict[str, Any]) -> dict[str, Any]:
        record = {"task": self._task.upper(), "language": pair.language, QUERY_FIELD: pair.query}
        record |= {self._task.candidate_field: pair.candidate, "label": label}
        return record | {name: extra[name] for name in _EXTRAS if name in extra} | {"source": SOURCE}

    def _judge(self) -> None:
        """Turn judgements into votes: the last one of each annotator."""
        cursor = self._store.database.cursor()
        for *pair, first, voter, grade, name, row, raw in self._store.database.execute(_JUDGED, (self._task.value,)):
            value = json.loads(grade)
            share = label_of(value) if self._grades is None else self._grades.share_of(value)
            if share is None:
                expected = "0 or 1; other grades need --grades" if self._grades is None else self._grades.expected()
                self._store.bad.add(BadRow(name, row, (Problem(UNKNOWN_GRADE, "grade", value, expected),), raw))
                continue
            cursor.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?, ?, ?, 0, 0)", (*pair, first))
            query, _, candidate, _, language = pair
            vote = (query, candidate, language, voter, share)
            cursor.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?)", vote)

    def _note_unknown_texts(self) -> None:
        """Keep the rows whose texts are unknown as bad lines: those of the list that they first occur in."""
        found = self._store.database.execute(_UNKNOWN, (self._options.min_impressions,))
        for name, row, query, query_known, candidate, candidate_known in found:
            hashes = [("query_hash", query, query_known), ("hash", candidate, candidate_known)]
            expected = "its text: the log has hashes only, --texts FILE gives what they are of"
            problems = [Problem("unknown text", field, key, expected) for field, key, known in hashes if not known]
            self._store.bad.add(BadRow(name, row, tuple(problems), ""))
