"""The file to score: its rows as the model needs them, its records as they are, and a survey of all rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from relevance.errors import InputError
from relevance.tasks import Task
from training.data.dataset import iter_records, iter_rows, raise_if_column_missing
from training.data.files.parts import PARQUET, TSV, parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.files.writers import Columns, check_record, output_type
from training.data.pair_blocks import PairBlock, iter_pair_blocks
from training.data.rows import BadRow, ReadReport, Row, listed
from training.scoring.options import ScoreOptions
from training.scoring.staged import Staging

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

    def pair_blocks(self) -> Iterator[PairBlock]:
        """Yield all rows, checked, some thousand at a time."""
        return iter_pair_blocks(self.path, self.task, self.reading)

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield every row, checked."""
        return iter_rows(self.path, self.task, reading=self.reading, require_labels=False)

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


class Survey(BaseModel):
    """The result of a survey: good and bad rows, and the columns of the good ones with their kinds of values.

    Kinds are known where the output is a table with types.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: int
    bad: int
    kinds: dict[str, frozenset[str]]

    def columns(self) -> Columns:
        """Return the columns, to which more can be added."""
        return Columns({name: set(kinds) for name, kinds in self.kinds.items()})


def survey(source: Source, out: Path, options: ScoreOptions, staging: Staging) -> Survey:
    """Read the whole source once, before any of it is scored, and stage its good rows.

    Raises InputError where rows are bad and may not be skipped, no row is good, labels are grades, a column is missing,
    or a good row has one of the columns to be added or what the type of `out` cannot hold.
    """
    seen, faults = _Seen(out), _Faults(options.skip_bad_rows)
    good, bad = 0, 0
    for block in source.pair_blocks():
        good += len(block.places)
        bad += len(block.bad)
        seen.add(block)
        faults.add(block)
        if faults.stop:
            break
        if block.places and not (bad and not options.skip_bad_rows):
            staging.add(block)
    faults.raise_if_any(source, good)
    columns = seen.columns.kinds
    if taken := [name for name in options.added if name in columns]:
        raise InputError(f"{source.path}: has {listed(taken)} already; expected other names, see --prefix")
    return Survey(good=good, bad=bad, kinds={name: frozenset(kinds) for name, kinds in columns.items()})


class _Seen:
    """The columns of good rows; their kinds of values only where the output needs them."""

    def __init__(self, out: Path) -> None:
        self.columns = Columns()
        self._out, suffix = out, output_type(out)[0]
        self._needs_kinds, self._needs_check = suffix == PARQUET, suffix == TSV
        self._names: set[tuple[str, ...]] = set()

    def add(self, block: PairBlock) -> None:
        for number, record in zip(block.numbers, block.records, strict=True):
            if self._needs_kinds or (names := tuple(record)) not in self._names:
                self.columns.see(record)
                if not self._needs_kinds:
                    self._names.add(names)
            if self._needs_check:
                check_record(self._out, record, f"row {number}")


class _Faults:
    """The bad rows of a source: the first ones, and how many rows there were up to the last of these."""

    def __init__(self, skip_bad_rows: bool) -> None:
        self.stop = False
        self._skip = skip_bad_rows
        self._rows: list[BadRow] = []
        self._count, self._total = 0, 0

    def add(self, block: PairBlock) -> None:
        for place, row in block.bad:
            self._count += 1
            if len(self._rows) < BAD_ROWS_NAMED:
                self._rows.append(row)
                self._total = place + 1
            else:
                self.stop = not self._skip

    def raise_if_any(self, source: Source, good: int) -> None:
        """Raise InputError where rows are bad and may not be skipped, or all are, or labels are grades."""
        report = ReadReport(str(source.path), self._total, tuple(self._rows))
        if self._count and (report.has_grades or not (good and self._skip)):
            raise_if_column_missing(source.path, self._rows if not good else [])
            stopped = f"\nand more; reading stopped after {BAD_ROWS_NAMED} bad rows" if self.stop else ""
            raise InputError(report.text() + stopped)
