"""The fields that a row must hold: under which names a file has them, and the checks of their values."""

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.languages import normalize_language
from relevance.tasks import Pair, Task
from training.rows import MISSING, Problem, Row, listed

QUERY_FIELD = "origin_query"
# A label column that once held nulls comes back from pandas as floats, and from CSV as their text.
_LABELS = {0: 0, 1: 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}
# White space, control and format characters (zero-width space, byte order mark): a text of these alone shows nothing.
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


@dataclass(frozen=True)
class Fields:
    """What a row of a task must hold and under which names the file has it."""

    task: Task
    columns: Mapping[str, str]  # as the user gave them: name in the file -> field or alias
    require_labels: bool
    unseen: set[str]  # names in `columns` that no row had so far

    def __post_init__(self) -> None:
        targets = [self.aliases.get(name, name) for name in self.columns.values()]
        for name, count in Counter(targets).items():
            if name not in self.known:
                raise InputError(f"columns: unknown field {name!r}; expected one of {listed(sorted(self.known))}")
            if count > 1:
                raise InputError(f"columns: {count} columns are mapped to {name!r}; expected one")

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Plain names that stand for a field where a row lacks the field's own name."""
        return {"query": QUERY_FIELD, "candidate": self.task.candidate_field}

    @cached_property
    def renames(self) -> dict[str, str]:
        """The user's column names, each with the field that it gives."""
        return {source: self.aliases.get(name, name) for source, name in self.columns.items()}

    @cached_property
    def known(self) -> frozenset[str]:
        """Names of all fields; whatever else a row has is an extra."""
        return frozenset({"id", "task", "language", QUERY_FIELD, self.task.candidate_field, "label"})

    def check_header(self, path: Path, names: Sequence[str]) -> None:
        """Refuse a table whose columns are repeated, missing or claimed twice: one message for all its rows."""
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise InputError(f"{path}: columns {listed(repeated)} appear more than once; expected each name once")
        for name in self.columns:
            if name not in names:
                raise missing_column(path, name, names)
        renamed: dict[str, Any] = dict.fromkeys(names)
        clash = self.rename(renamed)
        if clash:
            raise InputError(f"{path}: columns {clash.value} both give {clash.field!r}; expected {clash.expected}")
        required = [QUERY_FIELD, self.task.candidate_field, *(["label"] if self.require_labels else [])]
        for name in required:
            if name not in renamed:
                raise missing_column(path, name, names)

    def rename(self, record: dict[str, Any]) -> Problem | None:
        """Give the record's values their field names, in place; return the problem when two columns claim one."""
        for source, name in self.renames.items():
            if source in record:
                self.unseen.discard(source)
                if source == name:
                    continue
                if name in record:
                    return Problem("two columns for one field", name, listed([source, name]), "one of them")
                record[name] = record.pop(source)
        for alias, name in self.aliases.items():
            if name not in record and alias in record:
                record[name] = record.pop(alias)
        return None

    def row(self, record: dict[str, Any], number: int) -> Row | tuple[Problem, ...]:
        """Return the checked row, or everything wrong with it."""
        clash = self.rename(record)
        problems = [clash] if clash else []
        query = _text(record, QUERY_FIELD, problems)
        candidate = _text(record, self.task.candidate_field, problems)
        language = _language(record, problems)
        label = self._label(record, problems)
        row_id = _row_id(record, number, problems)
        stated = record.get("task")
        if not _is_blank(stated) and str(stated).strip().lower() != self.task:
            problems.append(Problem("other task", "task", stated, f"{self.task.upper()!r}"))
        if problems:
            return tuple(problems)
        known = self.known
        extra = {name: value for name, value in record.items() if name not in known}
        return Row(Pair(query, candidate, language), label, row_id, number, extra)

    def _label(self, record: dict[str, Any], problems: list[Problem]) -> int | None:
        value = record.get("label")
        if not self.require_labels and _is_blank(value):
            return None
        if "label" not in record:
            problems.append(Problem(MISSING, "label", None, "0 or 1"))
            return None
        key = value.strip() if isinstance(value, str) else value
        label = None if isinstance(key, list | dict) else _LABELS.get(key)
        if label is None:
            problems.append(Problem("unknown label", "label", value, "0 or 1"))
        return label


def _text(record: dict[str, Any], name: str, problems: list[Problem]) -> str:
    value = record.get(name)
    if isinstance(value, str):
        if value.isprintable() and value.strip():
            return value
        categories = set(map(unicodedata.category, value))
        if "Cs" in categories:
            problems.append(Problem("broken text", name, value, "text without half a surrogate pair"))
        elif categories <= _UNSEEN:
            problems.append(Problem("empty text", name, value, "text that can be seen"))
    elif name not in record:
        problems.append(Problem(MISSING, name, None, "text"))
    else:
        problems.append(Problem("empty text" if value is None else "not text", name, value, "text"))
    return value if isinstance(value, str) else ""


def _is_blank(value: Any) -> bool:
    # pandas writes NaN for what a row lacks.
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _language(record: dict[str, Any], problems: list[Problem]) -> str:
    value = record.get("language")
    if isinstance(value, str) or _is_blank(value):
        return normalize_language(value if isinstance(value, str) else None)
    problems.append(Problem("not a language", "language", value, "a code such as 'en', or none"))
    return ""


def _row_id(record: dict[str, Any], number: int, problems: list[Problem]) -> str:
    value = record.get("id")
    if _is_blank(value):
        return str(number)
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        problems.append(Problem("not an id", "id", value, "a whole number or text"))
    return str(value)


def missing_column(path: Path, name: str, found: Sequence[str]) -> InputError:
    """Return the error for a column that a whole file lacks."""
    return InputError(f"{path}: column {name!r} is missing; columns found: {listed(found)}")
