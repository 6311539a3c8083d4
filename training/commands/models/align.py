"""The command `align`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from relevance.errors import ConfigError
from relevance.storage.outputs import write_text
from relevance.tasks import Task
from training.alignment.options import AlignmentOptions
from training.commands.flat import Fields, flattened
from training.commands.options import Output, Reading, ReportOption
from training.data.files.writers import check_ending, check_files


@dataclass(frozen=True, slots=True)
class Files:
    """The memories, the rows that are kept out, and where the report goes."""

    reading: Reading
    memory: Annotated[list[Path], typer.Option(help="A translation memory or term base: .jsonl, .tsv or .tmx; repeat.")]
    keep_out: Annotated[
        list[Path] | None, typer.Option(help="Dev or test pairs whose queries must not be trained on; repeat.")
    ] = None
    task: Annotated[Task | None, typer.Option(help="The task of the rows of --keep-out.")] = None
    skip_bad_units: Annotated[bool, typer.Option("--skip-bad-units", help="Leave broken lines of a memory out.")] = (
        False
    )
    report: ReportOption = None


@flattened
def align(
    name: Annotated[str, typer.Argument(help="packaged:multilingual-e5-small, a local folder, or a hub id.")],
    out: Annotated[Path, typer.Argument(help="The model folder to make: a recipe's base_model.")],
    options: Annotated[AlignmentOptions, Fields()],
    files: Files,
    output: Output,
) -> None:
    """Bring languages together in a base model: translations get nearly the vectors of their source texts.

    Needs translations, no labels. It helps a kernel head whose rows are in one language; docs/quality.md has the
    figures. To resume an interrupted run, repeat the command.
    """
    from training.alignment.stage import align as run
    from training.data.keep_out import read_kept_out
    from training.data.stored.rows import chained
    from training.models.base.base_models import resolve_base_model
    from training.translation.backends.memory_files import units_of

    inputs = [Path(name), *files.memory, *(files.keep_out or ())]
    check_files([], inputs, others=[files.report, out], overwrite=output.overwrite)
    check_ending(files.report, ".json")
    if files.keep_out and files.task is None:
        raise ConfigError("--keep-out without --task: expected the task of its rows, qc, qi or rerank")
    held = read_kept_out(files.keep_out, files.task, files.reading) if files.keep_out and files.task else []
    units = units_of(files.memory, skip_bad=files.skip_bad_units)
    report = run(resolve_base_model(name), units, options, out, chained(*held), overwrite=output.overwrite)
    if files.report is not None:
        write_text(files.report, report.model_dump_json(indent=2) + "\n")
    output.report(report, out)
