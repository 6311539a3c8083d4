"""The command `negatives`: parses, calls the stage and reports."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevance.errors import ConfigError
from relevance.languages import chosen_languages
from relevance.outputs import write_text
from relevance.tasks import Task
from training.data.files.reading import (
    AS_IT_COMES,
    OUT_HELP,
    ROWS_HELP,
    JsonOption,
    OverwriteOption,
    ReadOptions,
    reads_rows,
)
from training.data.files.writers import beside, check_ending, check_files, say

if TYPE_CHECKING:
    from training.negatives.options import NegativeOptions
    from training.negatives.report import NegativesReport

log = logging.getLogger(__name__)


@reads_rows
def negatives(
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs to train on. {ROWS_HELP}")],
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the negatives. {OUT_HELP}")],
    task: Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")],
    reading: ReadOptions = AS_IT_COMES,
    strategy: Annotated[str, typer.Option(help="none, random, easy, hard or mixed.")] = "easy",
    negative_rate: Annotated[float | None, typer.Option(help="Negatives among a language's rows [0.35].")] = None,
    language_rate: Annotated[list[str] | None, typer.Option(help="Rate of one language, as de=0.4.")] = None,
    per_positive: Annotated[int | None, typer.Option(help="Negatives a positive row, in place of a rate.")] = None,
    band_low: Annotated[float | None, typer.Option(help="Least centred cosine to the query [a quantile].")] = None,
    band_high: Annotated[float | None, typer.Option(help="Greatest [a quantile].")] = None,
    positive_share_limit: Annotated[float, typer.Option(help="Below this share of the positive's cosine.")] = 0.95,
    candidates: Annotated[Path | None, typer.Option(help="Further candidates, one a line, as rows write them.")] = None,
    keep_out: Annotated[
        list[Path] | None, typer.Option(help="Dev or test pairs that must not get in; repeat. [those beside FILE]")
    ] = None,
    exact_up_to: Annotated[int, typer.Option(help="Most candidates for hard without an index.")] = 100_000,
    nearest: Annotated[int, typer.Option(help="Candidates of the index that hard chooses from.")] = 128,
    base_model: Annotated[str, typer.Option(help="The encoder.")] = "packaged:multilingual-e5-small",
    vet: Annotated[Path | None, typer.Option(help="A checkpoint that drops false negatives.")] = None,
    vet_above: Annotated[float, typer.Option(help="The score that makes a negative a false one.")] = 0.9,
    cache: Annotated[Path | None, typer.Option(help="Folder of embeddings [OUT with .embeddings].")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    report: Annotated[Path | None, typer.Option(help="Write the counts as JSON.")] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add negatives: queries of positive rows with other candidates, chosen by similarity, never known positives.

    Rows linked with dev or test rows, by query or `source_id`, are left out.
    Hard negatives among more candidates than `--exact-up-to` need usearch. A killed run keeps its embeddings.
    """
    options = _options(
        strategy=strategy,
        negative_rate=negative_rate,
        language_rates=_rates(language_rate or []),
        per_positive=per_positive,
        band_low=band_low,
        band_high=band_high,
        positive_share_limit=positive_share_limit,
        vet_above=vet_above,
        exact_up_to=exact_up_to,
        nearest=nearest,
        seed=seed,
    )
    from training.data.keep_out import files_beside

    inputs = [file, *files_beside(file, task), candidates, vet, *(keep_out or ())]
    check_files([out], inputs, others=[report], overwrite=overwrite)
    check_ending(report, ".json")
    cache = cache or beside(out, "embeddings")
    check_files([], inputs, others=[out, report, cache], overwrite=True)  # embeddings are kept from run to run
    files = _Files(file, out, candidates, vet, cache, tuple(keep_out or ()), reading)
    done = _sampled(files, task, options, base_model)
    for language in done.languages:
        if language.short:
            log.warning("%s: %d of %d negatives are missing", language.language, language.short, language.wanted)
    if report is not None:
        write_text(report, done.model_dump_json(indent=2) + "\n")
    say(done.model_dump_json() if as_json else f"{out}: {done.text()}", out)


@dataclass(frozen=True, slots=True)
class _Files:
    rows: Path
    out: Path
    candidates: Path | None
    vet: Path | None
    cache: Path
    keep_out: tuple[Path, ...]
    reading: ReadOptions


def _sampled(files: _Files, task: Task, options: "NegativeOptions", base_model: str) -> "NegativesReport":
    from training.data.dataset import read_pairs
    from training.data.keep_out import kept_out_files, read_kept_out, without_linked
    from training.data.splits import write_pairs
    from training.embedding.vectors import CachedEncoder
    from training.models.encoder_embedder import EncoderEmbedder
    from training.negatives.candidates import read_candidates
    from training.negatives.sampling import sample_negatives
    from training.negatives.vet import CheckpointVet

    vet = None if files.vet is None else CheckpointVet(files.vet, task)
    held = read_kept_out(kept_out_files(files.rows, task, files.keep_out), task, files.reading)
    rows = without_linked(read_pairs(files.rows, task, reading=files.reading).rows, held)
    extra = [] if files.candidates is None else read_candidates(files.candidates)
    encoder = CachedEncoder(EncoderEmbedder(base_model), files.cache)
    made, report = sample_negatives(rows, task, options, encoder, vet=vet, extra_candidates=extra)
    write_pairs(files.out, made, task)
    return report


def _options(**fields: Any) -> "NegativeOptions":
    from pydantic import ValidationError

    from relevance.card import explain
    from training.negatives.options import NegativeOptions

    try:
        return NegativeOptions(**fields)
    except ValidationError as error:
        raise ConfigError(f"options: {explain(error)}") from None


def _rates(given: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for text in given:
        name, _, rate = text.partition("=")
        (language,) = chosen_languages("--language-rate", [name])
        try:
            rates[language] = float(rate)
        except ValueError:
            raise ConfigError(f"--language-rate {text!r}: expected a language and a rate, as de=0.4") from None
    return rates
