"""The command `negatives`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.storage.outputs import write_text
from relevance.tasks import Task
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
from training.negatives.options import NegativeOptions

if TYPE_CHECKING:
    from training.data.stored.rows import StoredRows
    from training.negatives.report import NegativesReport

log = logging.getLogger(__name__)

Options = Annotated[
    NegativeOptions,
    Fields(
        *("strategy", "negative_rate", "language_rates", "per_positive", "band_low", "band_high"),
        *("positive_share_limit", "exact_up_to", "nearest", "vet_margin", "seed"),
    ),
]


@dataclass(frozen=True, slots=True)
class Sources:
    """Other inputs of the command, and what it writes beside the rows."""

    reading: Reading
    candidates: Annotated[Path | None, typer.Option(help="Further candidates, one a line, as rows write them.")] = None
    keep_out: KeepOutOption = None
    base_model: Annotated[str, typer.Option(help="The encoder.")] = "packaged:multilingual-e5-small"
    vet: Annotated[Path | None, typer.Option(help="A checkpoint that removes false negatives.")] = None
    cache: Annotated[Path | None, typer.Option(help="Folder of embeddings.", show_default="OUT with .embeddings")] = (
        None
    )
    report: ReportOption = None


@flattened
def negatives(
    file: TrainArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the negatives. {OUT_HELP}")],
    task: TaskOption,
    options: Options,
    sources: Sources,
    output: Output,
) -> None:
    """Add negatives: queries of positive rows with other candidates, chosen by similarity, never known positives.

    Rows linked with dev or test rows, by query or `source_id`, are left out. Hard negatives among more candidates than
    `--exact-up-to` need usearch. An interrupted run keeps its embeddings.
    """
    from training.data.keep_out import files_beside
    from training.data.splits import write_pairs

    report, cache = sources.report, sources.cache or beside(out, "embeddings")
    inputs = [file, *files_beside(file, task), sources.candidates, sources.vet, *(sources.keep_out or ())]
    check_files([out], inputs, others=[report], kept=cache, overwrite=output.overwrite)
    check_ending(report, ".json")
    made, done = _sampled(file, task, options, sources, cache)
    write_pairs(out, made, task)
    for language in done.languages:
        if language.short:
            log.warning("%s: %d of %d negatives are missing", language.language, language.short, language.wanted)
    if report is not None:
        write_text(report, done.model_dump_json(indent=2) + "\n")
    output.report(done, out)


def _sampled(
    file: Path, task: Task, options: NegativeOptions, sources: Sources, cache: Path
) -> tuple["StoredRows", "NegativesReport"]:
    from training.data.dataset import store_pairs
    from training.data.keep_out import kept_out_rows, without_linked
    from training.embedding.vectors import CachedEncoder
    from training.fitting.evaluation.scorer import model_scorer
    from training.models.encoder_embedder import EncoderEmbedder
    from training.negatives.candidates import read_candidates
    from training.negatives.sampling import sample_negatives

    vet = None if sources.vet is None else model_scorer(sources.vet, task, "vet")
    held = kept_out_rows(file, task, sources.keep_out, sources.reading)
    rows = without_linked(store_pairs(file, task, reading=sources.reading).rows, held)
    extra = [] if sources.candidates is None else read_candidates(sources.candidates)
    encoder = CachedEncoder(EncoderEmbedder(sources.base_model), cache)
    return sample_negatives(rows, task, options, encoder, vet=vet, extra_candidates=extra)
