"""The file to be scored: its rows as the model needs them, its records as they stand, and a first look at them all."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.tasks import Task
from training.dataset import BadRow, Row, iter_rows
from training.fields import Fields, missing_column
from training.filetypes import reader_of
from training.rows import MISSING, WHOLE_ROW, ReadReport, listed
from training.scoring.writers import Columns

BAD_ROWS_NAMED = 10_000  # reading stops after so many, which bounds the memory that naming them takes


@dataclass(frozen=True)
class Source:
    """A file of pairs of a task, with or without labels, read one row at a time."""

    path: Path
    task: Task

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield every row, checked."""
        return iter_rows(self.path, self.task, require_labels=False)

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield every row's number and its names and values as the file has them: nothing renamed, mended or checked.

        What is no record at all (a line that is no JSON object) is an empty one.
        """
        fields = Fields(self.task, {}, require_labels=False, unseen=set())
        for number, content, _ in reader_of(self.path)(self.path, fields):
            yield number, content if isinstance(content, dict) else {}

    def good(self) -> Iterator[Row]:
        """Yield the good rows."""
        return (row for row in self.rows() if isinstance(row, Row))

    def bad_records(self) -> Iterator[dict[str, Any]]:
        """Yield one record a problem, as `--skip-bad-rows` writes them."""
        bad = (row for row in self.rows() if isinstance(row, BadRow))
        return (record for row in bad for record in row.records())


@dataclass(frozen=True)
class Survey:
    """What a first look at a file found: good and bad rows, and the columns of the good ones."""

    good: int
    bad: int
    columns: Columns


def survey(source: Source, added: Iterable[str], *, skip_bad_rows: bool) -> Survey:
    """Read the whole file once before any of it is scored.

    Raises InputError where rows are bad and may not be skipped, no row is good, a column is missing, or a good row has
    one of the columns to be `added`.
    """
    columns = Columns()
    good, bad, named = 0, 0, 0
    faults: list[BadRow] = []
    for row, (_, record) in zip(source.rows(), source.records(), strict=True):
        if isinstance(row, Row):
            good += 1
            columns.see(record)
            continue
        bad += 1
        if len(faults) < BAD_ROWS_NAMED:
            faults.append(row)
            named = good + bad
        elif not skip_bad_rows:
            break
    if bad and not (good and skip_bad_rows):
        _raise_if_column_missing(source, faults if not good else [])
        stopped = f"\nand more; reading stopped after {BAD_ROWS_NAMED} bad rows" if bad > BAD_ROWS_NAMED else ""
        raise InputError(ReadReport(str(source.path), named, tuple(faults)).text() + stopped)
    if taken := [name for name in added if name in columns.kinds]:
        raise InputError(f"{source.path}: has {listed(taken)} already; expected other names, see --prefix")
    return Survey(good, bad, columns)


def _raise_if_column_missing(source: Source, faults: list[BadRow]) -> None:
    """Raise one error in place of one a row where every row that is an object lacks the same field."""
    objects = [row for row in faults if row.problems[0].field != WHOLE_ROW]
    absent = [{p.field for p in row.problems if p.kind == MISSING} for row in objects]
    for name in sorted(set.intersection(*absent)) if absent else ():
        found = next(record for _, record in source.records() if record)
        raise missing_column(source.path, name, list(found))
