"""A cache on disk, so that nothing is computed or paid for twice and a killed run can resume.

A sqlite file. Every `put` is one committed transaction, so a killed process loses at most the current batch. Several
processes may share a file.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from relevance.errors import InputError
from relevance.storage.files import writing

_TABLE = "CREATE TABLE IF NOT EXISTS entries (space TEXT NOT NULL, key TEXT NOT NULL, value, PRIMARY KEY (space, key))"
_GET = "SELECT value FROM entries WHERE space = ? AND key = ?"
# The first value stays: of two processes that computed one, both go on with the same.
_PUT = "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_WAIT_SECONDS = 60.0


class DiskCache:
    """Values (text, bytes or None) by space and key; a space is a sequence of names. Used as a context manager.

    `what` names the cache in messages. Raises MachineError where the file cannot be written, InputError where it is no
    cache.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._what = path, what
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
            with self._connection:
                self._connection.execute(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, space: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
        """Return the known ones of `keys` with their values."""
        name = json.dumps(space)
        with self._faults():
            rows = {key: self._connection.execute(_GET, (name, key)).fetchone() for key in keys}
        return {key: row[0] for key, row in rows.items() if row is not None}

    def put(self, space: Sequence[str], values: Mapping[str, Any]) -> None:
        """Keep values; on return they are on disk. A key that is known already keeps its value."""
        name = json.dumps(space)
        with self._faults(), self._connection:
            self._connection.executemany(_PUT, [(name, key, value) for key, value in values.items()])

    def forget_failures(self) -> int:
        """Drop the keys whose value is None, so that they are tried again; return how many there were."""
        with self._faults(), self._connection:
            return self._connection.execute("DELETE FROM entries WHERE value IS NULL").rowcount

    def __len__(self) -> int:
        with self._faults():
            return int(self._connection.execute("SELECT count(*) FROM entries").fetchone()[0])

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except sqlite3.Error as error:
            raise InputError(
                f"{self._what} {self.path}: {error}; expected a new file or an earlier cache (remove this one)"
            ) from error
