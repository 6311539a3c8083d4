"""The command `negatives`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import Fields, flattened
from training.commands.options import OUT_HELP, Output, TaskOption, TrainArgument
from training.commands.rows.drawing import DrawingFiles
from training.negatives.options import NegativeOptions

log = logging.getLogger(__name__)

Options = Annotated[
    NegativeOptions,
    Fields(
        *("strategy", "negative_rate", "language_rates", "per_positive", "band_low", "band_high"),
        *("positive_share_limit", "exact_up_to", "nearest", "vet_margin", "seed"),
    ),
]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of the command beside FILE and OUT."""

    more: DrawingFiles
    vet: Annotated[Path | None, typer.Option(help="A checkpoint or bundle that removes false negatives.")] = None


@flattened
def negatives(
    file: TrainArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the negatives. {OUT_HELP}")],
    task: TaskOption,
    options: Options,
    files: Files,
    output: Output,
) -> None:
    """Add negatives: queries of positive rows with other candidates, chosen by similarity, never known positives.

    Rows linked with dev or test rows, by query or `source_id`, are left out. Hard negatives among more candidates than
    `--exact-up-to` need usearch. To resume an interrupted run, repeat the command.
    """
    from training.negatives.sampling import sample_negatives

    more = files.more
    more.check(file, out, task, [files.vet], output)
    vet = None if files.vet is None else more.scorer(files.vet, task, "vet", out)
    given = more.read(file, task)
    encoder = more.encoder(out)
    made, done = sample_negatives(given.rows, task, options, encoder, vet=vet, extra_candidates=given.candidates)
    more.write(out, made, task, done)
    for language in done.languages:
        if language.short:
            log.warning("%s: %d of %d negatives are missing", language.language, language.short, language.wanted)
    output.report(done, out)
