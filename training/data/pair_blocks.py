"""Read rows as columns of pairs, a block at a time: for scoring, which needs neither ids nor extras of a row.

Rows are checked by the rules of `Fields.row`. Most rows are plainly good, by the few tests here; all others go through
`Fields.row` itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from relevance.errors import InputError
from relevance.tasks import UNKNOWN_LANGUAGE, Task
from training.data.dataset import bad_row
from training.data.fields import Fields, language_code, odd_tag
from training.data.files.columns import QUERY_FIELD, missing_column
from training.data.files.file_types import Record, record_blocks
from training.data.files.language_tags import LanguageTags
from training.data.files.parts import Part, parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.rows import BadRow, Problem, Row
from training.data.values import MISSING_WORDS

_LABEL_TEXTS = frozenset({"", "0", "1"})


@dataclass(frozen=True, slots=True)
class PairBlock:
    """Good rows of a stretch of a source, as columns, and its bad rows.

    `places` are the places of the good rows among all rows of the source, from 0; `numbers` are their row numbers in
    their file. `records` are their names and values as the file has them. Bad rows come with their place.
    """

    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    bad: list[tuple[int, BadRow]] = field(default_factory=list)

    def add(self, place: int, record: Record, pair: tuple[str, str, str]) -> None:
        """Add a good row."""
        query, candidate, language = pair
        self.places.append(place)
        self.numbers.append(record.number)
        self.queries.append(query)
        self.candidates.append(candidate)
        self.languages.append(language)
        self.records.append(record.content)  # type: ignore[arg-type] - a problem makes no pair


class _Names(NamedTuple):
    """The columns of the fields in rows of one set of columns; None where there is none."""

    query: str
    candidate: str
    language: str | None
    label: str | None
    id: str | None
    task: str | None


def iter_pair_blocks(path: Path, task: Task, reading: ReadOptions = AS_IT_COMES) -> Iterator[PairBlock]:
    """Yield all rows in order, some thousand at a time. Labels may be absent.

    Raises InputError at once for files that cannot be opened, and during iteration for a file that is truncated, a
    column that is missing in the whole file, and a file without rows. Warns at the end of languages that are no code,
    and of a column that seems to hold the languages under another name.
    """
    return _pair_blocks(path, parts_of(path), Fields(task, reading, require_labels=False))


def _pair_blocks(path: Path, parts: list[Part], fields: Fields) -> Iterator[PairBlock]:
    checker = _Checker(fields)
    start, good, names = 0, 0, []
    for part in parts:
        for records in record_blocks(part, fields):
            block = checker.block(part, records, start)
            good += len(block.places)
            yield block
            start += len(records)
            names = next((list(r.content) for r in reversed(records) if isinstance(r.content, dict)), names)
    if not start:
        raise InputError(f"{path}: holds no rows; expected at least one")
    for name in sorted(fields.unseen) if names else ():
        raise missing_column(str(path), name, names)
    checker.tags.warn(path, good)


class _Checker:
    """Checks rows; knows the columns of the rows that it has seen."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._tasks = frozenset({None, "", fields.task.value, fields.task.value.upper()})
        self._names: dict[tuple[str, ...], _Names | None] = {}
        self.tags = LanguageTags()  # of the good rows

    def block(self, part: Part, records: list[Record], start: int) -> PairBlock:
        """Return the rows of a stretch that begins at the place `start` of the source."""
        found = PairBlock()
        for place, record in enumerate(records, start):
            content = record.content
            if isinstance(content, Problem):
                found.bad.append((place, bad_row(part, record, content)))
                continue
            pair = self._plain_pair(content)
            if pair is None:
                renamed = record._replace(content=dict(content))  # `row` gives its columns the names of fields
                row = self._fields.row(renamed.content, record.number)
                if not isinstance(row, Row):
                    found.bad.append((place, bad_row(part, renamed, row)))
                    continue
                pair = row.pair.query, row.pair.candidate, row.pair.language
            if pair[2] == UNKNOWN_LANGUAGE:
                self._see_unknown(content)
            found.add(place, record, pair)
        return found

    def _plain_pair(self, content: dict[str, Any]) -> tuple[str, str, str] | None:
        """Return the pair of a row that is plainly good; None where only `Fields.row` can tell."""
        columns = tuple(content)
        if columns not in self._names:
            self._names[columns] = self._found(columns)
        names = self._names[columns]
        if names is None:
            return None
        query, candidate = content[names.query], content[names.candidate]
        if not (_is_plain(query) and _is_plain(candidate)):
            return None
        if names.label is not None and not _is_label(content[names.label]):
            return None
        if names.id is not None and type(content[names.id]) not in (int, str):
            return None
        if names.task is not None and not (
            isinstance(stated := content[names.task], str | None) and stated in self._tasks
        ):
            return None
        language = None if names.language is None else content[names.language]
        if not isinstance(language, str | None):
            return None
        return query, candidate, language_code(language)

    def _see_unknown(self, content: dict[str, Any]) -> None:
        """Count a good row of unknown language; `content` has the names of the file."""
        fields = self._fields.found(tuple(content))
        assert not isinstance(fields, Problem)  # the row is good
        column = next((name for name, target in fields.items() if target == "language"), None)
        tag = None if column is None else odd_tag(content[column], UNKNOWN_LANGUAGE)
        self.tags.see_unknown(tag, (name for name in content if name not in fields))

    def _found(self, columns: tuple[str, ...]) -> _Names | None:
        """Return the names of the fields. None: two columns give one field, one is missing, or labels need work."""
        found = self._fields.found(columns)
        if isinstance(found, Problem) or self._fields.reading.labels is not None or self._fields.counts:
            return None
        name_of = {target: name for name, target in found.items()}
        query, candidate = name_of.get(QUERY_FIELD), name_of.get(self._fields.task.candidate_field)
        if query is None or candidate is None:
            return None
        others = (name_of.get(name) for name in ("language", "label", "id", "task"))
        return _Names(query, candidate, *others)


def _is_plain(text: Any) -> bool:
    return type(text) is str and text.isprintable() and bool(text.strip()) and text not in MISSING_WORDS


def _is_label(value: Any) -> bool:
    if isinstance(value, str):
        return value in _LABEL_TEXTS
    return value is None or (type(value) is int and value in (0, 1))
