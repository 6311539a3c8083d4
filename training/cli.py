"""The commands of `training`. Each parses, calls one function, reports."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.errors import InputError
from relevance.languages import chosen_languages
from relevance.locks import locks_output
from relevance.outputs import check_outputs
from relevance.tasks import LabeledPair, Task
from training.commands.ablate import ablate
from training.commands.clean import clean_file
from training.commands.negatives import negatives
from training.commands.pipeline import pipeline
from training.commands.report import report as report_data
from training.commands.score import score
from training.commands.translate import convert_translator, translate
from training.commands.validate import apply_review, validate
from training.data.files.reading import (
    AS_IT_COMES,
    OUT_HELP,
    ROWS_HELP,
    JsonOption,
    OverwriteOption,
    ReadOptions,
    reads_rows,
)
from training.data.files.writers import check_files, say

if TYPE_CHECKING:
    from relevance.metrics import Report
    from training.fitting.recipe import Recipe

log = logging.getLogger(__name__)

app = typer.Typer()
app.command()(ablate)
app.command()(locks_output("out")(negatives))
app.command()(locks_output("out")(validate))
app.command("apply-review")(locks_output("out")(apply_review))
app.command()(locks_output("out")(translate))
app.command("convert-translator")(locks_output("out")(convert_translator))
app.command()(score)
data = typer.Typer(help="Check, clean, split and describe files of labelled pairs.", no_args_is_help=True)
data.command("clean")(locks_output("out")(clean_file))
data.command("report")(locks_output("out")(report_data))
app.add_typer(data, name="data")
app.add_typer(pipeline, name="pipeline")

TaskOption = Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Go on with the good rows; write the bad ones to a file beside OUT.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]


@app.command()
@locks_output("out")
def sample(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    seed: SeedOption = 0,
    scale: Annotated[float, typer.Option(help="Multiplies the number of rows.", min=0.05, max=10)] = 1.0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the embedded SYNTHETIC sample: QC and QI rows of a hand-written mini-shop in 13 languages."""
    from training.sample.generate import write_sample

    check_outputs([out], overwrite=overwrite)
    for name, rows in write_sample(out, seed=seed, scale=scale).items():
        print(f"{out / name}: {rows} rows")


@data.command()
@reads_rows
def check(
    file: Annotated[Path, typer.Argument(help=ROWS_HELP)],
    task: TaskOption,
    reading: ReadOptions = AS_IT_COMES,
    unlabeled: Annotated[bool, typer.Option("--unlabeled", help="Rows may lack their label.")] = False,
    bad_rows: Annotated[
        Path | None, typer.Option(help=f"Write every bad row to this file; count the good ones. {OUT_HELP}")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a file as training would; name every bad row, else count rows and positives by language."""
    from training.data.dataset import read_rows

    check_files([bad_rows], [file], overwrite=overwrite)
    found = read_rows(file, task, reading=reading, require_labels=not unlabeled, bad_rows_file=bad_rows)
    rows, report = found.rows, found.report
    if report.bad_rows:
        log.warning("%s: %d bad rows, written to %s", file, len(report.bad_rows), bad_rows)
    if report.repeated_ids:
        some = ", ".join(report.repeated_ids[:5])
        log.warning("%s: %d ids stand on several rows (%s ...)", file, len(report.repeated_ids), some)
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        count = counts.setdefault(row.pair.language, {"rows": 0, "positive": 0})
        count["rows"] += 1
        count["positive"] += row.label == 1
    lines = [f"{file}: {len(rows)} good rows"]
    for language, count in sorted(counts.items()):
        lines.append(f"  {language:4} {count['rows']:7} rows, {count['positive']:7} positive")
    as_object = json.dumps({"file": str(file), "rows": len(rows), "languages": counts})
    say(as_object if as_json else "\n".join(lines), bad_rows)


@data.command()
@locks_output("out")
@reads_rows
def split(
    file: Annotated[Path, typer.Argument(help=ROWS_HELP)],
    out: Annotated[Path, typer.Argument(help="The folder to make: train_QC.txt and so on.")],
    task: TaskOption,
    reading: ReadOptions = AS_IT_COMES,
    dev: Annotated[float, typer.Option(help="Share of the rows for dev.", min=0, max=1)] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the rows for test.", min=0, max=1)] = 0.1,
    held_out: Annotated[list[str] | None, typer.Option(help="A language that train must not see; repeat.")] = None,
    seed: SeedOption = 0,
    skip_bad_rows: SkipOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Split a file by query into train, dev and test: no query is in two of them; stratified by language and label."""
    from relevance.files import whole_folder
    from training.data.groups import linked_groups
    from training.data.splits import split_pairs, summarize, write_pairs

    check_files([], [file], others=[out], overwrite=overwrite)
    rows = _read(file, task, reading, _bad_rows_file(out, "rows", skip_bad_rows))
    fractions = {"train": round(1 - dev - test, 9), "dev": dev, "test": test}
    languages = chosen_languages("--held-out", held_out or ())
    splits = split_pairs(
        rows,
        fractions={k: v for k, v in fractions.items() if v},
        seed=seed,
        held_out_languages=languages,
        groups=linked_groups(rows),
    )
    with whole_folder(out) as folder:
        for name, members in splits.items():
            write_pairs(folder / f"{name}_{task.upper()}.txt", members, task)
    for part in summarize(splits):
        languages = " ".join(f"{code} {count}" for code, count in part.languages.items())
        print(f"{part.name}: {part.rows} rows, {part.queries} queries, {part.positive_share:.1%} positive; {languages}")


@app.command()
@locks_output("out")
def encoder(
    name: Annotated[str, typer.Argument(help="packaged:multilingual-e5-small, a local folder, or a hub id.")],
    out: Annotated[Path, typer.Argument(help="The model folder to make.")],
    layers: Annotated[int | None, typer.Option(help="Keep the first N layers.", min=1)] = None,
    trim_corpus: Annotated[
        Path | None, typer.Option(help="A text file; keep only the tokens of its lines (and of --trim-script).")
    ] = None,
    trim_script: Annotated[list[str] | None, typer.Option(help="Keep the characters of a script; repeat.")] = None,
    whole_scripts: Annotated[bool, typer.Option("--whole-scripts", help="Keep every token of those scripts.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a base model as a transformers folder: fewer layers, a smaller vocabulary."""
    from training.models.base_models import EncoderOptions, prepare_encoder, resolve_base_model

    check_files([], [Path(name), trim_corpus], others=[out], overwrite=overwrite)
    corpus = _lines(trim_corpus) if trim_corpus else None
    options = EncoderOptions(layers, corpus, tuple(trim_script or ()), whole_scripts)
    report = prepare_encoder(resolve_base_model(name), out, options)
    before, after = report.before, report.after
    print(f"{out}: {after.layers} of {before.layers} layers, {after.vocabulary:,} of {before.vocabulary:,} tokens, ")
    print(f"  {after.parameters:,} of {before.parameters:,} parameters; licence {report.base.license}")


@app.command()
@reads_rows
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, see configs/.")],
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to make; appears whole or not at all.")],
    train_file: Annotated[list[Path], typer.Option("--train", help="Labelled pairs to train on; repeat.")],
    dev_file: Annotated[Path, typer.Option("--dev", help="Labelled pairs to choose checkpoint and threshold by.")],
    reading: ReadOptions = AS_IT_COMES,
    base_model: Annotated[str | None, typer.Option(help="In place of the recipe's base_model.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's seed.", min=0)] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeat.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Train on these languages only; repeat.")] = None,
    max_rows: Annotated[int | None, typer.Option(help="Train on so many rows, drawn by the seed.", min=2)] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="Pairs in languages that training lacks, to match their thresholds by; repeat."),
    ] = None,
    skip_bad_rows: SkipOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a cross-encoder. A run that was interrupted goes on when the same command is given again."""
    from training.data.dataset import read_rows
    from training.data.keep_out import linked_with
    from training.data.splits import draw
    from training.fitting.checkpoint import Job
    from training.fitting.checkpoint import train as run

    check_files([], [recipe, *train_file, dev_file], others=[out], overwrite=overwrite)
    chosen = _recipe(recipe, [*(overrides or ())], base_model, seed)
    rows: list[LabeledPair] = []
    for number, file in enumerate(train_file, start=1):
        rows += _read(file, chosen.task, reading, _bad_rows_file(out, f"train{number}", skip_bad_rows))
    rows = draw(_of_languages(rows, language), max_rows, chosen.seed)
    dev = _read(dev_file, chosen.task, reading, _bad_rows_file(out, "dev", skip_bad_rows))
    if leaked := [row for row, is_linked in zip(rows, linked_with(rows, [dev]), strict=True) if is_linked]:
        log.warning(
            "%d training rows (first: id %s) have a query of dev or are linked with its rows: metrics on dev flatter",
            *(len(leaked), leaked[0].id),
        )
    log.info("%s: %d pairs to train on, %d for dev", chosen.name, len(rows), len(dev))
    files = [read_rows(file, chosen.task, reading=reading, require_labels=False) for file in unlabelled or ()]
    pairs = [row.pair for found in files for row in found.rows]
    card = run(Job(chosen, rows, dev, out, pairs), overwrite=overwrite)
    _print_report(card.metrics, f"{chosen.name} on {dev_file.name}", as_json)


@app.command()
@reads_rows
def evaluate(
    model: Annotated[Path, typer.Argument(help="A folder written by `relevance train` or `relevance export`.")],
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs. {ROWS_HELP}")],
    reading: ReadOptions = AS_IT_COMES,
    skip_bad_rows: SkipOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score labelled pairs with a model: F1, always-yes F1 and AUC, by language, with intervals.

    Labels are those that the service would give: by the threshold of each language. Intervals resample linked rows.
    """
    from training.fitting.evaluation import card_of, judge_labels, report_model, score_rows

    bad_rows_file = _bad_rows_file(model, "rows", skip_bad_rows)
    rows = _read(file, card_of(model).task, reading, bad_rows_file)
    card, scores = score_rows(model, rows)
    for finding in judge_labels(rows, scores, card):
        log.warning("%s: %s", file.name, finding)
    _print_report(report_model(rows, scores, card), f"{card.name} on {file.name}", as_json)


def _recipe(path: Path, overrides: list[str], base_model: str | None, seed: int | None) -> "Recipe":
    from training.pipeline.recipe import load_fine_tuning

    if base_model is not None:
        overrides.append(f"base_model={json.dumps(base_model, ensure_ascii=False)}")
    if seed is not None:
        overrides.append(f"seed={seed}")
    return load_fine_tuning(path, overrides)


def _read(file: Path, task: Task, reading: ReadOptions, bad_rows_file: Path | None) -> list[LabeledPair]:
    """Read a labelled file; bad rows go to `bad_rows_file`, or end the command where there is none."""
    from training.data.dataset import read_pairs

    found = read_pairs(file, task, reading=reading, bad_rows_file=bad_rows_file)
    if found.report.bad_rows:
        log.warning("%s: %d bad rows skipped, written to %s", file, len(found.report.bad_rows), bad_rows_file)
    return found.rows


def _bad_rows_file(out: Path, role: str, skip: bool) -> Path | None:
    return out.parent / f"{out.name}.bad_rows.{role}.jsonl" if skip else None


def _of_languages(rows: list[LabeledPair], languages: list[str] | None) -> list[LabeledPair]:
    if not languages:
        return rows
    wanted = set(chosen_languages("--language", languages))
    if missing := wanted - {row.pair.language for row in rows}:
        raise InputError(f"--language {', '.join(sorted(missing))}: no training row has it")
    return [row for row in rows if row.pair.language in wanted]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"corpus {path}: {error}; expected a UTF-8 text file") from None


def _print_report(report: "Report | None", title: str, as_json: bool) -> None:
    from rich.console import Console

    from training.fitting.evaluation import metrics_table

    if report is None:
        return
    if as_json:
        print(report.model_dump_json())
    else:
        Console(width=140).print(metrics_table(report, title))
