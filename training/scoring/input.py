"""The file to score: its rows as the model needs them, its records as they are, and a survey of all rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from relevance.errors import InputError
from relevance.tasks import Task
from training.data.dataset import iter_records, iter_rows_with_records, raise_if_column_missing
from training.data.files.parts import PARQUET, parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.files.writers import Columns, check_record
from training.data.rows import BadRow, ReadReport, Row, listed

BAD_ROWS_NAMED = 10_000  # reading stops after so many, which bounds the memory that naming them takes


class Placed(NamedTuple):
    """A good row and its place among all rows of the source, from 0."""

    place: int
    row: Row


@dataclass(frozen=True)
class Source:
    """Pairs of a task, with or without labels, read one row at a time."""

    path: Path
    task: Task
    reading: ReadOptions = AS_IT_COMES

    @property
    def is_parquet(self) -> bool:
        """Whether all files are Parquet, whose own types an output can keep."""
        return all(part.suffix == PARQUET for part in parts_of(self.path))

    def rows_with_records(self) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        """Yield every row, checked, and its record, as `records` yields it."""
        return iter_rows_with_records(self.path, self.task, reading=self.reading, require_labels=False)

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield every row, checked."""
        return (row for row, _ in self.rows_with_records())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield every row's names and values as the file has them: nothing renamed, corrected or checked.

        What is no record at all (a line that is no JSON object) is an empty one.
        """
        for _, found in iter_records(self.path, self.task, self.reading):
            yield found.content if isinstance(found.content, dict) else {}

    def good(self) -> Iterator[Placed]:
        """Yield the good rows."""
        return (Placed(place, row) for place, row in enumerate(self.rows()) if isinstance(row, Row))

    def bad_records(self) -> Iterator[dict[str, Any]]:
        """Yield one record a problem, as `--skip-bad-rows` writes them."""
        bad = (row for row in self.rows() if isinstance(row, BadRow))
        return (record for row in bad for record in row.records())


@dataclass(frozen=True)
class Survey:
    """The result of a survey: good and bad rows, and the columns of the good ones."""

    good: int
    bad: int
    columns: Columns


def survey(source: Source, out: Path, added: Iterable[str], *, skip_bad_rows: bool) -> Survey:
    """Read the whole file once before any of it is scored.

    Raises InputError where rows are bad and may not be skipped, no row is good, labels are grades, a column is missing,
    or a good row has one of the columns to be `added` or what the type of `out` cannot hold.
    """
    columns = Columns()
    good, bad, named = 0, 0, 0
    faults: list[BadRow] = []
    for row, record in source.rows_with_records():
        if isinstance(row, Row):
            good += 1
            columns.see(record)
            check_record(out, record, f"row {row.number}")
            continue
        bad += 1
        if len(faults) < BAD_ROWS_NAMED:
            faults.append(row)
            named = good + bad
        elif not skip_bad_rows:
            break
    report = ReadReport(str(source.path), named, tuple(faults))
    if bad and (report.has_grades or not (good and skip_bad_rows)):
        raise_if_column_missing(source.path, faults if not good else [])
        stopped = f"\nand more; reading stopped after {BAD_ROWS_NAMED} bad rows" if bad > BAD_ROWS_NAMED else ""
        raise InputError(report.text() + stopped)
    if taken := [name for name in added if name in columns.kinds]:
        raise InputError(f"{source.path}: has {listed(taken)} already; expected other names, see --prefix")
    return Survey(good, bad, columns)
