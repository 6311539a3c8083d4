"""The commands `data from-logs` and `data interleaving`: what the service's feedback log says."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import Fields, flattened
from training.commands.options import OUT_HELP, ROWS_HELP, JsonOption, Output, SeedOption, SkipOption, TaskOption
from training.data.files.reading import ReadOptions
from training.data.files.writers import check_files
from training.feedback.options import LogOptions

log = logging.getLogger(__name__)

FolderArgument = Annotated[Path, typer.Argument(help="The folder of the service's feedback log.")]


@dataclass(frozen=True, slots=True)
class Source:
    """Files with the texts of a log that has hashes only, how they are read, and what happens to bad lines."""

    reading: Annotated[ReadOptions, Fields("columns", "encoding", "delimiter", "quotes")]
    texts: Annotated[
        list[Path] | None,
        typer.Option("--texts", help=f"Queries and candidates of a log that has hashes only; repeat. {ROWS_HELP}"),
    ] = None
    skip_bad_rows: SkipOption = False


@flattened
def from_logs(
    folder: FolderArgument,
    out: Annotated[Path, typer.Argument(help=f"The file of training rows to make. {OUT_HELP}")],
    task: TaskOption,
    options: Annotated[LogOptions, Fields()],
    source: Source,
    output: Output,
) -> None:
    """Make training rows of the service's feedback log: with clicks, impressions and a soft label (docs/feedback.md).

    Events whose request is not in FOLDER go to OUT.unmatched.jsonl: add this file to a later FOLDER.
    """
    from training.feedback.from_logs import LogReading, files_beside, rows_from_logs

    texts = source.texts or []
    check_files([out], [folder, *texts], others=files_beside(out), overwrite=output.overwrite)
    log_files = LogReading(
        folder=folder, texts=tuple(texts), reading=source.reading, skip_bad_rows=source.skip_bad_rows
    )
    output.report(rows_from_logs(log_files, out, task, options), out)


def interleaving(folder: FolderArgument, seed: SeedOption = 0, as_json: JsonOption = False) -> None:
    """Compare two models whose rankings the service interleaved: whose candidates do users click on?

    The preference is the challenger's share of the lists with a click; one half is a draw. A winner needs a 95 %
    interval beside one half and p < .05 in the sign test.
    """
    from training.feedback.interleaving import judge

    found = judge(folder, seed)
    if found.bad_lines:
        log.warning("%s: %d bad lines left out\n%s", folder, found.bad_lines, found.problems)
    print(found.model_dump_json() if as_json else found.text())
