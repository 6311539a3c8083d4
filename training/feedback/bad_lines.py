"""The bad lines of a log, kept on disk: all of them are reported together, however many there are."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from training.data.rows import SHOWN_ROWS, BadRow, Problem

_TABLE = "CREATE TABLE bad (file TEXT, row INTEGER, kind TEXT, field TEXT, value TEXT, expected TEXT, raw TEXT)"


class BadLines:
    """Collects bad lines in a table of a database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(_TABLE)

    def add(self, row: BadRow) -> None:
        """Keep all problems of a line."""
        for record in row.records():
            record["value"] = json.dumps(record["value"], default=str)
            self._database.execute("INSERT INTO bad VALUES (:file,:row,:kind,:field,:value,:expected,:raw)", record)

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM (SELECT DISTINCT file, row FROM bad)").fetchone()[0])

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one record for each problem, as files of bad rows have them, in the order of the files."""
        names = ("file", "row", "kind", "field", "value", "expected", "raw")
        for values in self._database.execute(f"SELECT {', '.join(names)} FROM bad ORDER BY file, row, rowid"):
            record = dict(zip(names, values, strict=True))
            yield record | {"value": json.loads(record["value"])}

    def text(self) -> str:
        """Return the report in words: counts by kind, then the first lines."""
        counts = "SELECT count(*), kind, field FROM bad GROUP BY kind, field ORDER BY 1 DESC, kind, field"
        lines = [f"  {count} x {kind}, {field}" for count, kind, field in self._database.execute(counts)]
        for record in islice(self.records(), SHOWN_ROWS):
            problem = Problem(record["kind"], record["field"], record["value"], record["expected"])
            lines += BadRow(record["file"], record["row"], (problem,), record["raw"]).lines()
        return "\n".join(lines)
