"""Arguments and options of several commands."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import typer

from relevance.tasks import LabeledPair, Task
from training.commands.flat import Fields
from training.data.files.reading import ReadOptions
from training.data.files.writers import say
from training.data.rows import ReadResult

log = logging.getLogger(__name__)

ROWS_HELP = (
    "JSON lines (.txt, .jsonl), CSV, TSV or Parquet, also .gz or .zst; a folder or 'pattern*' of such files; or - for "
    "standard input."
)
OUT_HELP = "Its name says the format: .jsonl, .csv, .tsv or .parquet, also .gz or .zst; - is standard output."

RowsArgument = Annotated[Path, typer.Argument(help=ROWS_HELP)]
TrainArgument = Annotated[Path, typer.Argument(help=f"Labelled pairs to train on. {ROWS_HELP}")]
TaskOption = Annotated[
    Task, typer.Option(help="qc: query and category path; qi: query and item title; rerank: query and any document.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
RecipeOption = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeat.")]
KeepOutOption = Annotated[
    list[Path] | None,
    typer.Option(help="Dev or test pairs that must not get into training; repeat.", show_default="those beside FILE"),
]
ReportOption = Annotated[Path | None, typer.Option(help="Write the report to this file, as JSON.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Skip bad rows; they go to a file that a message names.")
]
Reading = Annotated[ReadOptions, Fields()]


class Printable(Protocol):
    """A report that a command prints, as text or as JSON."""

    def text(self) -> str:
        """Return the report as text."""

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """Return the report as one JSON object."""


@dataclass(frozen=True, slots=True)
class Output:
    """Whether a command replaces existing output, and whether it reports as text or as JSON."""

    overwrite: OverwriteOption = False
    as_json: JsonOption = False

    def report(self, report: Printable, out: Path) -> None:
        """Print a report; on standard error if the rows go to standard output."""
        say(report.model_dump_json() if self.as_json else f"{out}: {report.text()}", out)


@dataclass(frozen=True, slots=True)
class PairFiles:
    """How labelled files are read, and whether bad rows are skipped or end the command."""

    reading: Reading
    skip_bad_rows: SkipOption = False

    def read(self, file: Path, task: Task, out: Path, role: str) -> list[LabeledPair]:
        """Return the rows of a file. Skipped rows are written to `OUT.bad_rows.ROLE.jsonl`."""
        from training.data.dataset import read_pairs

        return list(self._read(read_pairs, file, task, out.parent / f"{out.name}.bad_rows.{role}.jsonl"))

    def store(self, file: Path, task: Task, out: Path, role: str) -> Sequence[LabeledPair]:
        """Return the same rows in temporary files."""
        from training.data.dataset import store_pairs

        return self._read(store_pairs, file, task, out.parent / f"{out.name}.bad_rows.{role}.jsonl")

    def _read(
        self, read: Callable[..., ReadResult[LabeledPair]], file: Path, task: Task, bad_rows: Path
    ) -> Sequence[LabeledPair]:
        found = read(file, task, reading=self.reading, bad_rows_file=bad_rows if self.skip_bad_rows else None)
        if found.report.bad_rows:
            log.warning("%s: %d bad rows skipped, written to %s", file, len(found.report.bad_rows), bad_rows)
        return found.rows
