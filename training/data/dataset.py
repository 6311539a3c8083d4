"""Read data files into checked rows: AnalytiCup JSON lines, CSV, TSV and Parquet. Every bad row is reported.

Knows the file formats and the fields of a row; knows nothing of splits, models or how a pair is formatted.

The fields are `origin_query`, the task's candidate (`category_path` for QC, `item_title` for QI) and `label`; `id`,
`language` and `task` are optional. `query` and `candidate` are other names of the first two. `ReadOptions.columns` maps
any other column to a field. All further columns are kept as extras.

A row's number is the line on which it starts, as an editor shows it (a CSV header is line 1). Rows of Parquet files and
of JSON arrays are counted from 1. A row without `id` takes its number as id, one without `language` is `unk`.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from relevance.errors import InputError
from relevance.tasks import UNKNOWN_LANGUAGE, LabeledPair, Task
from training.data.fields import LANGUAGE_TAG, Fields
from training.data.files.columns import missing_column, missing_columns
from training.data.files.file_types import Record, records_of
from training.data.files.language_tags import LanguageTags
from training.data.files.parts import PARQUET, Part, parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.files.writers import check_files, write_file
from training.data.labels.clicks import BetaPrior, counts_of, with_rate
from training.data.labels.weights import has_other_share
from training.data.rows import MISSING, WHOLE_ROW, BadRow, BadRowsError, Problem, ReadReport, ReadResult, Row
from training.data.stored.batches import in_chunks, to_batch, to_rows
from training.data.stored.buckets import PLACED, RepeatedKeys
from training.data.stored.rows import stored
from training.data.stored.spool import Spool
from training.data.values import plain_id

log = logging.getLogger(__name__)

_NO_LABEL = -1


def read_pairs(
    path: Path | str,
    task: Task,
    *,
    reading: ReadOptions = AS_IT_COMES,
    bad_rows_file: Path | str | None = None,
) -> ReadResult[LabeledPair]:
    """Read a labelled file into memory; arguments and errors as for `read_rows`, but ids may repeat unseen."""
    return _pairs(_Reader(Path(path), task, reading, bad_rows_file), list)


def store_pairs(
    path: Path | str,
    task: Task,
    *,
    reading: ReadOptions = AS_IT_COMES,
    require_labels: bool = True,
    bad_rows_file: Path | str | None = None,
) -> ReadResult[LabeledPair]:
    """Read a labelled file into temporary files, for stages that go through rows of any number (training.data.stored).

    Without `require_labels`, a row that has no label gets 0. Other arguments and errors as for `read_pairs`, and
    MachineError if the disk is full.
    """
    return _pairs(_Reader(Path(path), task, reading, bad_rows_file), stored, require_labels)


def read_rows(
    path: Path | str,
    task: Task,
    *,
    reading: ReadOptions = AS_IT_COMES,
    require_labels: bool = True,
    bad_rows_file: Path | str | None = None,
) -> ReadResult[Row]:
    """Read all rows of a file, of a folder or pattern of part files, or of standard input (`-`).

    Bad rows are an error unless `bad_rows_file` is given. That file then gets one JSON line for each problem (file,
    row, kind, field, value, expected, raw); it is written atomically, and is empty if every row is good. Without
    `require_labels`, rows may lack a label, but a label that is present must be 0 or 1.

    Raises BadRowsError if rows are bad and `bad_rows_file` is None, if no row is good, or if a label is a number other
    than 0 and 1, because all labels may then be grades. Raises InputError if the file cannot be read or lacks a column.
    """
    good: list[Row] = []
    report = scan_rows(
        path, task, good.append, reading=reading, require_labels=require_labels, bad_rows_file=bad_rows_file
    )
    return ReadResult(good, report)


def scan_rows(
    path: Path | str,
    task: Task,
    see: Callable[[Row], object],
    *,
    reading: ReadOptions = AS_IT_COMES,
    require_labels: bool = True,
    bad_rows_file: Path | str | None = None,
) -> ReadReport:
    """Call `see` with each good row of what `read_rows` reads, and return the report; errors as there.

    Rows are not held. Their ids lie in temporary files until repeated ones are found: MachineError if the disk is full.
    """
    reader, ids = _Reader(Path(path), task, reading, bad_rows_file), RepeatedKeys()
    for row in reader.rows(require_labels):
        see(row)
        ids.add(row.id)
    return replace(reader.report, repeated_ids=tuple(ids.found()))


def _pairs(
    reader: "_Reader", hold: Callable[[Iterator[LabeledPair]], Sequence[LabeledPair]], require_labels: bool = True
) -> ReadResult[LabeledPair]:
    found = reader.rows(require_labels)
    rows = hold(LabeledPair(row.pair, 0 if row.label is None else row.label, row.id, row.extra) for row in found)
    return ReadResult(rows, reader.report)


class _RowsOnDisk:
    """Rows that can be gone through again, in a temporary file."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._spool = Spool(PLACED)
        for chunk in in_chunks(rows):
            pairs = [
                LabeledPair(row.pair, _NO_LABEL if row.label is None else row.label, row.id, row.extra) for row in chunk
            ]
            numbers = pa.array([row.number for row in chunk], pa.int64())
            self._spool.add(to_batch(pairs).append_column("place", numbers))

    def __iter__(self) -> Iterator[Row]:
        for batch in self._spool.batches():
            for row, number in zip(to_rows(batch), batch.column("place").to_pylist(), strict=True):
                yield Row(row.pair, None if row.label == _NO_LABEL else row.label, row.id, number, row.extra)


class _Reader:
    """Reads the good rows of a file and keeps the bad ones for the report."""

    def __init__(self, path: Path, task: Task, reading: ReadOptions, bad_rows_file: Path | str | None) -> None:
        self._path, self._task, self._reading = path, task, reading
        self._target = None if bad_rows_file is None else Path(bad_rows_file)
        if self._target is not None:
            check_files([self._target], [path], overwrite=True)
        self._good = self._odd = 0  # good rows; those with a label and a share that contradict each other
        self._tags = LanguageTags()
        self._bad: list[BadRow] = []

    def rows(self, require_labels: bool) -> Iterator[Row]:
        """Return the good rows; those of click counts with the rates that all of them give."""
        good: Iterable[Row] = self._good_rows(require_labels)
        if self._reading.clicks:
            prior = BetaPrior.parse(self._reading.clicks)
            if prior is None:
                good = _RowsOnDisk(good)
                _ = self.report  # bad rows are reported before counts that fit no prior
                counts = Counter(pair for pair in map(counts_of, good) if pair is not None)
                prior = BetaPrior.fitted(counts.elements()) if counts else None
            if prior is not None:
                return (with_rate(row, prior) for row in good)
        return iter(good)

    def _good_rows(self, require_labels: bool) -> Iterator[Row]:
        for row in iter_rows(self._path, self._task, reading=self._reading, require_labels=require_labels):
            if isinstance(row, Row):
                self._good += 1
                self._odd += has_other_share(row.label, row.extra)
                if row.pair.language == UNKNOWN_LANGUAGE:
                    self._tags.see_unknown(row.extra.get(LANGUAGE_TAG), row.extra)
                yield row
            else:
                self._bad.append(row)

    @cached_property
    def report(self) -> ReadReport:
        """The report on all rows, which were read; writes the file of bad rows, and raises where they are an error."""
        if not self._good:
            raise_if_column_missing(self._path, self._bad)
        self._warn()
        report = ReadReport(str(self._path), self._good + len(self._bad), tuple(self._bad))
        if self._target is not None:
            write_file(self._target, [record for row in self._bad for record in row.records()])
        if self._bad and (self._target is None or not self._good or report.has_grades):
            raise BadRowsError(report)
        return report

    def _warn(self) -> None:
        """Log what is odd about good rows."""
        if self._odd:
            log.warning(
                "%s: %d rows have a label_share on the other side of their label: training learns the share, metrics "
                "read the label",
                *(self._path, self._odd),
            )
        self._tags.warn(self._path, self._good)


def iter_rows(
    path: Path | str, task: Task, *, reading: ReadOptions = AS_IT_COMES, require_labels: bool = True
) -> Iterator[Row | BadRow]:
    """Yield every row, good or bad, in order. Holds one row in memory at a time (Parquet: one row group).

    Raises InputError at once for files that cannot be opened and for Parquet files, of several, that are truncated or
    lack a column, and during iteration for another file that is truncated. With several part files, a row without an
    id gets the name of its file and its number as id. Rows of click counts have no label yet: a prior of their rates
    may need all of them.
    """
    parts = parts_of(Path(path))
    if tables := [part for part in parts if part.suffix == PARQUET] if len(parts) > 1 else []:
        from training.data.files.parquet import check_parquet

        check_parquet(tables, lambda: Fields(task, reading, require_labels))
    return _checked_rows(Path(path), parts, Fields(task, reading, require_labels))


def iter_records(path: Path, task: Task, reading: ReadOptions = AS_IT_COMES) -> Iterator[tuple[Part, Record]]:
    """Yield every record unchanged: columns are not renamed, values are not checked."""
    fields = Fields(task, reading, require_labels=False)
    return ((part, record) for part in parts_of(path) for record in records_of(part, fields))


def _checked_rows(path: Path, parts: Sequence[Part], fields: Fields) -> Iterator[Row | BadRow]:
    last: Record | None = None
    names: list[str] = []
    for part in parts:
        for record in records_of(part, fields):
            last = record
            number, content, _ = record
            if isinstance(content, dict):
                names = list(content)
            row = content if isinstance(content, Problem) else fields.row(content, number)  # renames columns
            if isinstance(row, Row):
                has_id = len(parts) == 1 or not isinstance(content, dict) or plain_id(content.get("id")) is not None
                yield row if has_id else replace(row, id=f"{part.path.name}:{number}")
                continue
            yield bad_row(part, record, row)
    if last is None:
        raise InputError(f"{path}: holds no rows; expected at least one")
    for name in sorted(fields.unseen) if names else ():
        raise missing_column(str(path), name, names)


def bad_row(part: Part, record: Record, problems: Problem | tuple[Problem, ...]) -> BadRow:
    """Return a bad row with its problems, and its text as far as it can be printed."""
    raw = json.dumps(record.content, ensure_ascii=False, default=str) if record.raw is None else record.raw
    found = (problems,) if isinstance(problems, Problem) else problems
    return BadRow(part.name, record.number, found, _printable(raw))


def raise_if_column_missing(path: Path, bad: Sequence[BadRow]) -> None:
    """Raise one error for the whole file if all rows that are objects lack the same field."""
    objects = [row for row in bad if row.problems[0].field != WHOLE_ROW]
    absent = [{p.field for p in row.problems if p.kind == MISSING} for row in objects]
    if missing := sorted(set.intersection(*absent)) if absent else []:
        raise missing_columns(str(path), missing, list(json.loads(objects[0].raw)))


def _printable(text: str) -> str:
    return text.rstrip("\r\n").encode(errors="surrogateescape").decode(errors="backslashreplace")
