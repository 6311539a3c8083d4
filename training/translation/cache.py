"""Translations kept on disk, so that no text is paid for twice and a killed run goes on where it was.

A sqlite file: every `put` is one committed transaction, so that a process killed at any moment loses at most the batch
in hand. Texts without a translation (the translator was asked and gave none) are kept too: a run that is resumed then
meets the same answers as one left alone. `forget_failures` lets them be asked for again.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from relevance.errors import InputError
from relevance.files import writing

_TABLE = """
CREATE TABLE IF NOT EXISTS translations (
    translator TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, text TEXT NOT NULL, translation TEXT,
    PRIMARY KEY (translator, source, target, text)
) WITHOUT ROWID
"""
_GET = "SELECT translation FROM translations WHERE translator = ? AND source = ? AND target = ? AND text = ?"
# The first answer stays: of two processes that asked for one text, both go on with the same translation.
_PUT = "INSERT INTO translations VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_WAIT_SECONDS = 60.0


class TranslationCache:
    """Translations by translator, languages and text. Used as a context manager; several processes may share a file.

    Raises MachineError where the file cannot be written, InputError where it is no cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
            with self._connection:
                self._connection.execute(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was put is on disk already."""
        self._connection.close()

    def get(self, translator: str, source: str, target: str, texts: Sequence[str]) -> dict[str, str | None]:
        """Return the known ones of `texts`: text -> translation, or None where the translator gave none."""
        with self._faults():
            rows = {
                text: self._connection.execute(_GET, (translator, source, target, text)).fetchone() for text in texts
            }
        return {text: row[0] for text, row in rows.items() if row is not None}

    def put(self, translator: str, source: str, target: str, translations: Mapping[str, str | None]) -> None:
        """Keep translations; on return they are on disk. A text that is known already keeps its translation."""
        rows = [(translator, source, target, text, translation) for text, translation in translations.items()]
        with self._faults(), self._connection:
            self._connection.executemany(_PUT, rows)

    def forget_failures(self) -> int:
        """Drop the texts without a translation, so that they are asked for again; return how many there were."""
        with self._faults(), self._connection:
            return self._connection.execute("DELETE FROM translations WHERE translation IS NULL").rowcount

    def __len__(self) -> int:
        with self._faults():
            return int(self._connection.execute("SELECT count(*) FROM translations").fetchone()[0])

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except sqlite3.Error as error:
            raise InputError(
                f"translation cache {self.path}: {error}; expected a new file or an earlier cache"
            ) from error
