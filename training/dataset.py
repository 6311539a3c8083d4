"""Rows of data files, checked: AnalytiCup JSON lines, CSV, TSV and Parquet become pairs, and every bad row is named.

Knows the file formats and what a row must hold; knows nothing of splits, models or how a pair is formatted.

Fields are `origin_query`, the task's candidate (`category_path` for QC, `item_title` for QI) and `label`; `id`,
`language` and `task` may be left out. `query` and `candidate` are read as `origin_query` and the candidate where a row
lacks these; `columns` maps any other name of the file to a field. All further fields are kept as extras.

A row's number is the line on which it starts, as an editor shows it (a CSV header is line 1); in Parquet, rows count
from 1. A row without `id` takes its number as id, one without `language` is `unk`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Task
from training.fields import Fields, missing_column
from training.filetypes import Record, reader_of
from training.jsonlines import write_json_lines
from training.rows import MISSING, WHOLE_ROW, BadRow, BadRowsError, Problem, ReadReport, ReadResult, Row

__all__ = [
    "BadRow",
    "BadRowsError",
    "Problem",
    "ReadReport",
    "ReadResult",
    "Row",
    "iter_rows",
    "read_pairs",
    "read_rows",
]


def read_pairs(
    path: Path | str, task: Task, *, columns: Mapping[str, str] | None = None, bad_rows_file: Path | str | None = None
) -> ReadResult[LabeledPair]:
    """Read a labelled file; arguments and errors as for `read_rows`."""
    found = read_rows(path, task, columns=columns, bad_rows_file=bad_rows_file)
    return ReadResult([row.labeled() for row in found.rows], found.report)


def read_rows(
    path: Path | str,
    task: Task,
    *,
    columns: Mapping[str, str] | None = None,
    require_labels: bool = True,
    bad_rows_file: Path | str | None = None,
) -> ReadResult[Row]:
    """Read a whole file. Bad rows are an error unless `bad_rows_file` says where to put them.

    `bad_rows_file` then gets one JSON line a problem (file, row, kind, field, value, expected, raw), whole or not at
    all; it is written, empty, when every row is good. `columns` maps names in the file to field names. Without
    `require_labels` a row may lack its label, but a label that is there must be 0 or 1.

    Raises BadRowsError when rows are bad and `bad_rows_file` is None, or when no row is good; InputError when the file
    cannot be read at all or lacks a column throughout.
    """
    path = Path(path)
    target = None if bad_rows_file is None else _checked_target(Path(bad_rows_file), path)
    good: list[Row] = []
    bad: list[BadRow] = []
    for row in iter_rows(path, task, columns=columns, require_labels=require_labels):
        if isinstance(row, Row):
            good.append(row)
        else:
            bad.append(row)
    if not good:
        _raise_if_column_missing(path, bad)
    repeated = [key for key, count in Counter(row.id for row in good).items() if count > 1]
    report = ReadReport(str(path), len(good) + len(bad), tuple(bad), tuple(repeated))
    if target is not None:
        write_json_lines(target, (record for row in bad for record in row.records()))
    if bad and (target is None or not good):
        raise BadRowsError(report)
    return ReadResult(good, report)


def iter_rows(
    path: Path | str, task: Task, *, columns: Mapping[str, str] | None = None, require_labels: bool = True
) -> Iterator[Row | BadRow]:
    """Yield every row of a file, good or bad, in order, holding one row (Parquet: one row group and batch) at a time.

    The file and `columns` are checked at once; InputError comes from here, or later when the file breaks off.
    """
    path = Path(path)
    records = reader_of(path)
    fields = Fields(task, dict(columns or {}), require_labels, unseen=set(columns or {}))
    return _checked_rows(path, records(path, fields), fields)


def _checked_rows(path: Path, records: Iterator[Record], fields: "Fields") -> Iterator[Row | BadRow]:
    number = 0
    names: Iterable[str] = ()
    for number, content, raw in records:
        if isinstance(content, dict):
            names = content.keys()
        row = content if isinstance(content, Problem) else fields.row(content, number)
        if isinstance(row, Row):
            yield row
            continue
        if raw is None:
            raw = json.dumps(content, ensure_ascii=False, default=str)
        yield BadRow(str(path), number, (row,) if isinstance(row, Problem) else row, _printable(raw))
    if number == 0:
        raise InputError(f"{path}: holds no rows; expected at least one")
    for name in sorted(fields.unseen) if names else ():
        raise missing_column(path, name, list(names))


def _checked_target(target: Path, source: Path) -> Path:
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target}: is the file to be read; expected another file for its bad rows")
    if target.is_dir():
        raise InputError(f"{target}: is a folder; expected a file for the bad rows")
    return target


def _raise_if_column_missing(path: Path, bad: Sequence[BadRow]) -> None:
    """Raise one error in place of one a row when all rows that are objects lack the same field."""
    objects = [row for row in bad if row.problems[0].field != WHOLE_ROW]
    absent = [{p.field for p in row.problems if p.kind == MISSING} for row in objects]
    for name in sorted(set.intersection(*absent)) if absent else ():
        raise missing_column(path, name, list(json.loads(objects[0].raw)))


def _printable(text: str) -> str:
    return text.rstrip("\r\n").encode(errors="surrogateescape").decode(errors="backslashreplace")
