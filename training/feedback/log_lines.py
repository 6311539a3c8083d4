"""Reads the files of a feedback log: each line checked, bad ones with all their problems."""

import glob
import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from relevance.errors import InputError
from relevance.feedback import HIDDEN, KEY_FILE, FeedbackLine, LogLine, ScoresLine, read_key
from relevance.tasks import Task
from training.data.fields import Fields
from training.data.files.file_types import records_of
from training.data.files.parts import parts_of
from training.data.rows import MISSING, BadRow, Problem

log = logging.getLogger(__name__)

_LINE: TypeAdapter[ScoresLine | FeedbackLine] = TypeAdapter(LogLine)


def log_lines(folder: Path) -> Iterator[tuple[str, int, str, ScoresLine | FeedbackLine | BadRow]]:
    """Yield the name of the file, number, text and content of each line. Holds one line in memory.

    InputError for a folder that is none or has no files, and for a file that is truncated or of an unknown type.
    """
    if not folder.exists() and not glob.has_magic(str(folder)):
        raise InputError(f"{folder}: no such folder; expected the feedback_folder of the service, or its files")
    if writing := [path.name for path in folder.glob(f"**/{HIDDEN}*")] if folder.is_dir() else []:
        log.warning(
            "%s: %d files that a service still writes are not read (%s); it publishes them at its end, at its next "
            "start, and after the time of its setting feedback_file_seconds",
            *(folder, len(writing), sorted(writing)[0]),
        )
    fields = Fields(Task.QC, require_labels=False)  # of JSON lines only the reading of objects is used
    for part in parts_of(folder):
        for number, content, raw in records_of(part, fields):
            text = (raw or "").rstrip("\r\n")
            yield part.name, number, text, _checked(part.name, number, content, text)


def hash_keys(folder: Path) -> list[bytes]:
    """Return the keys that lie beside the files of a log. ConfigError for one that is damaged."""
    folders = [folder, *(path.parent for path in folder.rglob(KEY_FILE))] if folder.is_dir() else [folder.parent]
    return [read_key(each) for each in dict.fromkeys(folders) if (each / KEY_FILE).exists()]


def _checked(name: str, number: int, content: object, text: str) -> ScoresLine | FeedbackLine | BadRow:
    if isinstance(content, Problem):
        return BadRow(name, number, (content,), text)
    try:
        return _LINE.validate_python(content)
    except ValidationError as error:
        return BadRow(name, number, tuple(map(_problem, error.errors(include_url=False))), text)


def _problem(fault: ErrorDetails) -> Problem:
    where = ".".join(map(str, fault["loc"][1:])) or "kind"  # the first part is the kind of the line
    if fault["type"] == "missing":
        return Problem(MISSING, where, None, "what the service writes there")
    return Problem("not a line of the log", where, fault["input"], fault["msg"])
