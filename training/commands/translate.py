"""The commands `translate` and `convert-translator`: they parse, call one function and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevance.errors import ConfigError
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
    from training.translation.plan import TranslationOptions

BackendOption = Annotated[
    list[str], typer.Option(help="memory:FILE, ctranslate2:FOLDER or openai:MODEL@URL; repeat, the first that can.")
]
LikeOption = Annotated[
    Path | None,
    typer.Option(help="Kept out; without --target, their languages that FILE lacks [dev_TASK beside FILE]."),
]
KeepOutOption = Annotated[
    list[Path] | None,
    typer.Option(help="Dev or test pairs that must not get in, in any language; repeat. [those beside FILE]"),
]


@reads_rows
def translate(
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs to train on. {ROWS_HELP}")],
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the translated ones. {OUT_HELP}")],
    task: Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")],
    backend: BackendOption,
    reading: ReadOptions = AS_IT_COMES,
    target: Annotated[list[str] | None, typer.Option(help="A language to translate into; repeat.")] = None,
    like: LikeOption = None,
    keep_out: KeepOutOption = None,
    rows_per_language: Annotated[int | None, typer.Option(help="All that can be made when absent.", min=1)] = None,
    sources: Annotated[str, typer.Option(help="proportional, all, most_frequent or one.")] = "proportional",
    source_language: Annotated[str | None, typer.Option(help="With --sources one.")] = None,
    positive_share: Annotated[float | None, typer.Option(help="Of the rows made; as in FILE when absent.")] = None,
    without_gate: Annotated[list[str] | None, typer.Option(help="Switch off a quality gate; repeat.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Translations on disk [OUT with .translations.sqlite].")] = None,
    at_budget: Annotated[str, typer.Option(help="When a budget is spent: fail, or keep what there is.")] = "fail",
    settings: Annotated[list[str] | None, typer.Option("--set", help="openai.FIELD=VALUE and so on; repeat.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again for texts that had none.")] = False,
    skip_bad_units: Annotated[bool, typer.Option("--skip-bad-units", help="Leave broken memory lines out.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the counts as JSON.")] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="Write rejected translations; the name says the format, as of OUT.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add rows in further languages: queries translated, candidate and label kept, bad translations left out.

    Rows linked with dev or test rows, by query or `source_id`, are left out. Never give a memory of dev or test
    queries. A run that was killed goes on when the same command is given again.
    """
    options = _options(
        targets=tuple(target or ()),
        rows_per_language=rows_per_language,
        sources=sources,
        source_language=source_language,
        positive_share=positive_share,
        seed=seed,
        at_budget=at_budget,
        gates=_gates(without_gate or []),
    )
    from training.data.keep_out import files_beside

    memories = [name.removeprefix("memory:") for name in backend if name.startswith("memory:")]
    inputs = [
        file,
        *files_beside(file, task),
        like,
        *(keep_out or ()),
        *(Path(part) for name in memories for part in name.split(",")),
    ]
    check_files([out, rejected], inputs, others=[report], overwrite=overwrite)
    check_ending(report, ".json")
    cache = cache or beside(out, "translations.sqlite")
    check_files([], inputs, others=[out, rejected, report, cache], overwrite=True)  # it is kept from run to run
    from training.translation.job import TranslationJob, run_job

    job = TranslationJob(
        file=file,
        out=out,
        task=task,
        options=options,
        backends=tuple(backend),
        settings=tuple(settings or ()),
        dev=like,
        keep_out=tuple(keep_out or ()),
        cache=cache,
        report=report,
        rejected=rejected,
        retry_failed=retry_failed,
        skip_bad_units=skip_bad_units,
        reading=reading,
    )
    done = run_job(job)
    say(done.model_dump_json() if as_json else f"{out}: {done.text()}", out)


def convert_translator(
    model: Annotated[str, typer.Argument(help="A transformers folder or hub id: M2M100, NLLB, MADLAD-400, Marian.")],
    out: Annotated[Path, typer.Argument(help="The folder to make, for --backend ctranslate2:FOLDER.")],
    quantization: Annotated[str, typer.Option(help="int8, int8_float16, float16, bfloat16 or float32.")] = "int8",
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a translation model with CTranslate2 and put its tokenizer beside it."""
    from training.translation.ctranslate2 import convert_model

    check_files([], [Path(model)], others=[out], overwrite=overwrite)
    convert_model(model, out, quantization)
    print(f"{out}: converted, {quantization}")


def _options(**fields: Any) -> "TranslationOptions":
    from pydantic import ValidationError

    from relevance.card import explain
    from training.translation.plan import TranslationOptions

    try:
        return TranslationOptions(**fields)
    except ValidationError as error:
        raise ConfigError(f"options: {explain(error)}") from None


def _gates(off: list[str]) -> dict[str, Any]:
    from training.translation.gates import GateOptions

    known = GateOptions.model_fields
    for name in off:
        if name not in known:
            raise ConfigError(f"--without-gate {name}: no such gate; expected one of {', '.join(known)}")
    return {name: False if known[name].annotation is bool else None for name in off}
