"""The command `transfer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import Fields, flattened
from training.commands.options import OUT_HELP, Output, TaskOption, TrainArgument
from training.commands.rows.drawing import DrawingFiles
from training.transfer.options import TransferOptions


@dataclass(frozen=True, slots=True)
class Files:
    """The files of the command beside FILE and OUT."""

    more: DrawingFiles
    teacher: Annotated[Path, typer.Option(help="A checkpoint or bundle that is good in the source language.")]
    memory: Annotated[list[Path], typer.Option(help="A translation memory or term base: .jsonl, .tsv or .tmx; repeat.")]
    skip_bad_units: Annotated[bool, typer.Option("--skip-bad-units", help="Leave broken lines of a memory out.")] = (
        False
    )


@flattened
def transfer(
    file: TrainArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the new ones. {OUT_HELP}")],
    task: TaskOption,
    options: Annotated[TransferOptions, Fields()],
    files: Files,
    output: Output,
) -> None:
    """Add rows in other languages that nobody labelled: texts of a memory, translated, with a teacher's scores.

    The teacher scores a text in the source language with candidates of FILE; the row has the translation and that score
    as its target. Texts and translations that are queries of dev or test are left out, and so are pairs that FILE has
    already. To resume an interrupted run, repeat the command.
    """
    from training.data.stored.rows import chained
    from training.transfer.stage import Sources
    from training.transfer.stage import transfer as run
    from training.translation.backends.memory_files import units_of

    more = files.more
    more.check(file, out, task, [files.teacher, *files.memory], output)
    units = units_of(files.memory, skip_bad=files.skip_bad_units)
    teacher = more.scorer(files.teacher, task, "teacher", out)
    given = more.read(file, task)
    sources = Sources(units, given.candidates, chained(*given.held))
    made, done = run(given.rows, task, sources, options, more.encoder(out), teacher)
    done = done.model_copy(update={"left_out": given.left_out})
    more.write(out, made, task, done)
    output.report(done, out)
