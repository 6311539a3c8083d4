"""Texts for a log of hashes: a user's own rows and catalogues, hashed with the log's keys."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relevance.errors import InputError
from relevance.feedback import KEY_FILE, hash_of
from relevance.tasks import Task
from training.data.fields import Fields
from training.data.files.columns import QUERY_FIELD, missing_column
from training.data.files.file_types import records_of
from training.data.files.parts import parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.feedback.log_lines import hash_keys


@dataclass(frozen=True)
class TextFields(Fields):
    """The fields of files of texts: queries, candidates or both."""

    require_labels: bool = False

    def check_header(self, path: str, names: Sequence[str]) -> None:
        """Raise InputError if a table has neither queries nor candidates."""
        if not self.rename(dict.fromkeys(names)) and not self._held(names):
            raise missing_column(path, self.task.candidate_field, names)

    def _held(self, names: Sequence[str]) -> bool:
        record = dict.fromkeys(names)
        self.rename(record)
        return bool({QUERY_FIELD, self.task.candidate_field} & record.keys())


def hashed_texts(
    files: Sequence[Path], folder: Path, task: Task, reading: ReadOptions = AS_IT_COMES
) -> Iterator[tuple[str, str]]:
    """Yield the hash and the text of every query and candidate in files, by each key of a log.

    Other columns are not looked at. InputError where a file has neither column, and for a log without a key.
    """
    keys = hash_keys(folder) if files else []
    if files and not keys:
        raise InputError(f"{folder}: has no {KEY_FILE}; expected the key that the service made, to hash --texts with")
    fields = TextFields(task, reading)
    for path in files:
        found = 0
        for part in parts_of(path):
            for record in records_of(part, fields):
                if not isinstance(record.content, dict) or fields.rename(record.content) is not None:
                    continue
                values = [record.content.get(name) for name in (QUERY_FIELD, task.candidate_field)]
                texts = [value for value in values if isinstance(value, str) and value]
                found += len(texts)
                yield from ((hash_of(text, key), text) for text in texts for key in keys)
        if not found:
            expected = f"a column {QUERY_FIELD!r}, {task.candidate_field!r} or both"
            raise InputError(f"--texts {path}: holds no text; expected {expected} (--column NAME=FIELD)")
