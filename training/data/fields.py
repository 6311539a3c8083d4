"""The fields of a row: the names that columns may have, and the checks of values."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from relevance.errors import InputError
from relevance.languages import normalize_language
from relevance.tasks import Pair, Task
from training.data.extras import SOURCE_ID
from training.data.files.columns import QUERY_FIELD, likely_column, meant, missing_column, missing_columns, plain_name
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.labels.clicks import CLICKS, IMPRESSIONS, check_counts
from training.data.labels.grades import GRADE, label_of
from training.data.labels.weights import HALF, LABEL_SHARE
from training.data.rows import LABEL_EXTRAS, MISSING, UNKNOWN_GRADE, UNKNOWN_LABEL, Problem, Row, listed
from training.data.values import MISSING_WORDS, HexDigits, is_missing, is_rounded, plain_id

LANGUAGE_TAG = "language_tag"  # the extra that keeps the tag that a file had, if it is not the language code
PACKED_EXTRAS = "extra"  # the column of a pipeline's Parquet files that holds all extras as a JSON object
_MISSING_LANGUAGES = frozenset(word.lower() for word in MISSING_WORDS)
# White space, control and format characters (zero-width space, byte order mark): text of only these is invisible.
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


@dataclass(frozen=True)
class Fields:
    """The fields of a task's rows and the names of their columns.

    Names match regardless of case, white space, hyphens and underscores; an exact match goes first.
    """

    task: Task
    reading: ReadOptions = AS_IT_COMES
    require_labels: bool = True
    unseen: set[str] = field(default_factory=set)  # names in `reading.columns` that no row has had so far

    def __post_init__(self) -> None:
        self.unseen.update(self.reading.columns)
        targets = list(self.renames.values())
        for name, count in Counter(targets).items():
            if name not in self.known:
                expected = listed(sorted(self.known))
                raise InputError(
                    f"columns: unknown field {name!r}; expected one of {expected}{meant(name, self.known)}"
                )
            if count > 1:
                raise InputError(f"columns: {count} columns are mapped to {name!r}; expected one")

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Short names of fields, for rows without the field's own name."""
        return {"query": QUERY_FIELD, "candidate": self.task.candidate_field}

    @cached_property
    def renames(self) -> dict[str, str]:
        """The column names of the user, each with its field."""
        given = {source: plain_name(name) for source, name in self.reading.columns.items()}
        return {source: self.aliases.get(name, name) for source, name in given.items()}

    @cached_property
    def known(self) -> frozenset[str]:
        """The names of all fields. Every other column is an extra."""
        return frozenset({"id", "task", "language", QUERY_FIELD, self.task.candidate_field, "label", *self.counts})

    @property
    def counts(self) -> tuple[str, ...]:
        """The fields that make the label with --clicks; they stay as extras."""
        return (CLICKS, IMPRESSIONS) if self.reading.clicks else ()

    def check_header(self, path: str, names: Sequence[str]) -> None:
        """Raise InputError if columns of a table are repeated, missing or mapped twice: one message for all rows."""
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise InputError(f"{path}: columns {listed(repeated)} appear more than once; expected each name once")
        found = self.found(tuple(names))
        if isinstance(found, Problem):
            raise InputError(f"{path}: columns {found.value} both give {found.field!r}; expected {found.expected}")
        for name in sorted(self.unseen):
            raise missing_column(path, name, names)
        labels = (self.counts or ("label",)) if self.require_labels else ()
        required = [QUERY_FIELD, self.task.candidate_field, *labels]
        if missing := [name for name in required if name not in found.values()]:
            unused = [column for column in names if column not in found]
            language = None if "language" in found.values() else likely_column("language", unused)
            raise missing_columns(path, missing, names, [("language", language)] if language else [])

    def is_label(self, name: str, names: Sequence[str]) -> bool:
        """Return whether a column of a header holds labels 0 and 1."""
        found = self.found(tuple(names))
        is_plain = self.reading.labels is None and not self.counts
        return is_plain and isinstance(found, dict) and found.get(name) == "label"

    def rename(self, record: dict[str, Any]) -> Problem | None:
        """Rename the columns of a record to fields, in place. Return the problem if two columns give one field."""
        found = self.found(tuple(record))
        if isinstance(found, Problem):
            return found
        if moved := [source for source, name in found.items() if source != name]:
            values = {found[source]: record.pop(source) for source in moved}
            record |= values
        return None

    def row(self, record: dict[str, Any], number: int) -> Row | tuple[Problem, ...]:
        """Return the checked row, or all its problems."""
        clash = self.rename(record)
        problems = [clash] if clash else []
        query = _text(record, QUERY_FIELD, problems)
        candidate = _text(record, self.task.candidate_field, problems)
        language = _language(record, problems)
        share = self._share(record, problems)
        row_id = _row_id(record, number, problems)
        problems += _rounded_ids(record) if self.require_labels else []  # scores need no links
        stated = record.get("task")
        if not is_missing(stated) and str(stated).strip().lower() != self.task:
            problems.append(Problem("other task", "task", stated, f"{self.task.upper()!r}"))
        if problems:
            return tuple(problems)
        label = None if share is None else int(share >= HALF)
        extra = self._extra(record, language)
        if share is not None and 0 < share < 1:
            extra[LABEL_SHARE] = share
        return Row(Pair(query, candidate, language), label, row_id, number, extra)

    def found(self, names: tuple[str, ...]) -> dict[str, str] | Problem:
        """Return the field of each column, or the problem if two columns give one field."""
        if names not in self._headers:
            self._headers[names] = self._find(names)
            self.unseen.difference_update({name for name in self.unseen if _match(name, names, ()) is not None})
        return self._headers[names]

    @cached_property
    def _headers(self) -> dict[tuple[str, ...], dict[str, str] | Problem]:
        return {}

    def _find(self, names: tuple[str, ...]) -> dict[str, str] | Problem:
        found: dict[str, str] = {}
        for source, name in self.renames.items():
            if (match := _match(source, names, found)) is not None:
                if name in names and match != name:
                    return Problem("two columns for one field", name, listed([source, name]), "one of them")
                found[match] = name
        for name in [*sorted(self.known), *self.aliases, SOURCE_ID, *sorted(LABEL_EXTRAS)]:
            target = self.aliases.get(name, name)
            if target not in found.values() and (match := _match(name, names, found)) is not None:
                found[match] = target
        return found

    def _share(self, record: dict[str, Any], problems: list[Problem]) -> float | None:
        """Return the label as a share; None if there is none. Counts get theirs when all rows are read."""
        value, grades = record.get("label"), self.reading.labels
        if self.counts:
            if self.require_labels or any(not is_missing(record.get(name)) for name in self.counts):
                check_counts(record, problems)
            return None
        if not self.require_labels and is_missing(value):
            return None
        expected = "0 or 1" if grades is None else grades.expected()
        if "label" not in record:
            problems.append(Problem(MISSING, "label", None, expected))
            return None
        share = label_of(value) if grades is None else grades.share_of(value)
        if share is None:
            problems.append(Problem(UNKNOWN_LABEL if grades is None else UNKNOWN_GRADE, "label", value, expected))
        return share

    def _extra(self, record: dict[str, Any], language: str) -> dict[str, Any]:
        """Return all values of the row that are not fields."""
        known = self.known - set(self.counts)
        extra = {name: value for name, value in record.items() if name not in known}
        if PACKED_EXTRAS in extra:
            extra = _unpacked(extra, known)
        if (tag := odd_tag(record.get("language"), language)) is not None:
            extra.setdefault(LANGUAGE_TAG, tag)
        if self.reading.labels is not None and not is_missing(record.get("label")):
            extra.setdefault(GRADE, record["label"])
        given = extra.pop(SOURCE_ID, None)
        if source := given if isinstance(given, list) else plain_id(given):
            extra[SOURCE_ID] = source
        for name in LABEL_EXTRAS & extra.keys():
            if is_missing(extra[name]):
                del extra[name]
        return extra


def _match(name: str, names: Sequence[str], taken: Mapping[str, str] | tuple[()]) -> str | None:
    """Return the exact match of a name, else the first match that ignores case and white space; None if neither."""
    if name in names:
        return None if name in taken else name
    return next((each for each in names if each not in taken and plain_name(each) == plain_name(name)), None)


def _text(record: dict[str, Any], name: str, problems: list[Problem]) -> str:
    value = record.get(name)
    if isinstance(value, str):
        if value in MISSING_WORDS:
            problems.append(Problem("empty text", name, value, "text; this word stands for a missing value"))
            return ""
        if value.isprintable() and value.strip() and not isinstance(value, HexDigits):
            return value
        categories = set(map(unicodedata.category, value))
        if isinstance(value, HexDigits):
            problems.append(Problem("bad UTF-8", name, value, "text; these are digits of binary data"))
        elif "Cs" in categories:
            problems.append(Problem("broken text", name, value, "text without half a surrogate pair"))
        elif categories <= _UNSEEN:
            problems.append(Problem("empty text", name, value, "text that can be seen"))
    elif name not in record:
        problems.append(Problem(MISSING, name, None, "text"))
    else:
        problems.append(Problem("empty text" if is_missing(value) else "not text", name, value, "text"))
    return value if isinstance(value, str) else ""


def odd_tag(value: Any, language: str) -> str | None:
    """Return what a file says of a row's language, if that is not the row's language code; None for no value."""
    if not isinstance(value, str) or value == language:
        return None
    tag = value.strip()
    return None if tag.lower() in (language, "", *_MISSING_LANGUAGES) else tag


language_code = lru_cache(maxsize=1 << 12)(normalize_language)


def _language(record: dict[str, Any], problems: list[Problem]) -> str:
    value = record.get("language")
    if isinstance(value, str) or is_missing(value):
        return language_code(value if isinstance(value, str) else None)
    problems.append(Problem("not a language", "language", value, "a code such as 'en', or none"))
    return ""


def _row_id(record: dict[str, Any], number: int, problems: list[Problem]) -> str:
    value = record.get("id")
    found = plain_id(value)
    is_whole = isinstance(value, str | int) or found is None or found.lstrip("-").isdigit()
    if isinstance(value, bool) or not is_whole:
        problems.append(Problem("not an id", "id", value, "a whole number or text"))
    return str(number) if found is None else found


def _rounded_ids(record: dict[str, Any]) -> list[Problem]:
    """Return the problems of ids that lost their last digits: they may name another row, or none."""
    names = [name for name in ("id", SOURCE_ID) if is_rounded(record.get(name))]
    return [Problem("rounded id", name, record[name], "all digits, of which a float keeps 15") for name in names]


def _unpacked(extra: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return extras with those of the column `extra`, if it holds a JSON object as the pipeline writes it."""
    try:
        packed = json.loads(extra[PACKED_EXTRAS]) if isinstance(extra[PACKED_EXTRAS], str) else None
    except ValueError:
        return extra
    others = {name: value for name, value in extra.items() if name != PACKED_EXTRAS}
    if packed is None and is_missing(extra[PACKED_EXTRAS]):
        return others
    if not isinstance(packed, dict) or packed.keys() & (known | others.keys()):
        return extra
    return packed | others
