"""The command `transfer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from relevance.storage.outputs import write_text
from training.commands.flat import Fields, flattened
from training.commands.options import (
    OUT_HELP,
    KeepOutOption,
    Output,
    Reading,
    ReportOption,
    TaskOption,
    TrainArgument,
)
from training.data.files.writers import beside, check_ending, check_files
from training.transfer.options import TransferOptions


@dataclass(frozen=True, slots=True)
class Files:
    """Other inputs of the command, and what it writes beside the rows."""

    reading: Reading
    teacher: Annotated[Path, typer.Option(help="A checkpoint or bundle that is good in the source language.")]
    memory: Annotated[list[Path], typer.Option(help="A translation memory or term base: .jsonl, .tsv or .tmx; repeat.")]
    candidates: Annotated[Path | None, typer.Option(help="Further candidates, one a line, as rows write them.")] = None
    keep_out: KeepOutOption = None
    base_model: Annotated[str, typer.Option(help="The encoder that finds near candidates.")] = (
        "packaged:multilingual-e5-small"
    )
    cache: Annotated[Path | None, typer.Option(help="Folder of embeddings.", show_default="OUT with .embeddings")] = (
        None
    )
    skip_bad_units: Annotated[bool, typer.Option("--skip-bad-units", help="Leave broken lines of a memory out.")] = (
        False
    )
    report: ReportOption = None


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
    as its target. Texts and translations that are queries of dev or test are left out.
    """
    from training.data.dataset import store_pairs
    from training.data.keep_out import files_beside, kept_out_rows, without_linked
    from training.data.splits import write_pairs
    from training.data.stored.rows import chained
    from training.embedding.vectors import CachedEncoder
    from training.fitting.evaluation.scorer import model_scorer
    from training.models.encoder_embedder import EncoderEmbedder
    from training.negatives.candidates import read_candidates
    from training.transfer.stage import Sources
    from training.transfer.stage import transfer as run
    from training.translation.backends.memory_files import read_units

    report, cache = files.report, files.cache or beside(out, "embeddings")
    inputs = [files.teacher, file, *files_beside(file, task), *files.memory, files.candidates, *(files.keep_out or ())]
    check_files([out], inputs, others=[report], kept=cache, overwrite=output.overwrite)
    check_ending(report, ".json")
    scorer = model_scorer(files.teacher, task, "teacher")
    units = [unit for path in files.memory for unit in read_units(path, skip_bad=files.skip_bad_units)[0]]
    held = kept_out_rows(file, task, files.keep_out, files.reading)
    read = store_pairs(file, task, reading=files.reading).rows
    rows = without_linked(read, held)
    extra = [] if files.candidates is None else read_candidates(files.candidates)
    encoder = CachedEncoder(EncoderEmbedder(files.base_model), cache)
    given = Sources(units, extra, chained(*held))
    made, done = run(rows, task, given, options, encoder, scorer)
    done = done.model_copy(update={"left_out": len(read) - len(rows)})
    write_pairs(out, made, task)
    if report is not None:
        write_text(report, done.model_dump_json(indent=2) + "\n")
    output.report(done, out)
