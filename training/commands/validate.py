"""The commands `validate` and `apply-review`: they parse, call one function and report."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevance.errors import ConfigError
from relevance.outputs import write_text
from relevance.tasks import LabeledPair, Task
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
from training.selfvalidation.options import Action, Flag, Judge, SelfValidationOptions

if TYPE_CHECKING:
    from training.fitting.recipe import Recipe

log = logging.getLogger(__name__)

TaskOption = Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")]


@reads_rows
def validate(
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs to train on. {ROWS_HELP}")],
    out: Annotated[Path, typer.Argument(help=f"The file to write: the rows left or mended. {OUT_HELP}")],
    task: TaskOption,
    recipe: Annotated[Path, typer.Option(help="The TOML recipe of the judges.")],
    reading: ReadOptions = AS_IT_COMES,
    folds: Annotated[int, typer.Option(help="Into so many parts; each is judged by models of the others.", min=2)] = 5,
    method: Annotated[list[Flag] | None, typer.Option(help="Rules that flag rows; repeat. [adaptive]")] = None,
    action: Annotated[Action, typer.Option(help="What becomes of flagged rows; review: nothing.")] = Action.REVIEW,
    judge: Annotated[
        Judge, typer.Option(help="probe: over frozen embeddings; crossencoder: fine-tuned by the recipe.")
    ] = Judge.PROBE,
    models: Annotated[int, typer.Option(help="Judges, each with the next seed; relabel needs two.", min=1)] = 1,
    rounds: Annotated[int, typer.Option(help="Judge so many times.", min=1)] = 1,
    keep_out: Annotated[
        list[Path] | None, typer.Option(help="Dev or test pairs, which FILE must not hold; repeat. [those beside FILE]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    review: Annotated[
        Path | None, typer.Option(help="Write flagged rows: a page (.html), a CSV beside [OUT.review.html for review].")
    ] = None,
    control: Annotated[Path | None, typer.Option(help="Write FILE less as many rows, dropped at random.")] = None,
    work: Annotated[Path | None, typer.Option(help="Scores of finished folds [OUT with .validation].")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, as margin=0.3; repeat.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeat.")] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find wrong labels by models that never saw the row and list them for review; other actions change rows.

    drop, relabel and weight are refused where they would change more than max_share of the rows (0.1) or where the
    judges' AUC is below least_auc (0.6): see --option. `apply-review` applies what a person decided on the list.
    A run that was killed goes on when the same command is given again; other flags or actions then train nothing anew.
    """
    if review is None and action is Action.REVIEW:
        review = out.with_name(f"{out.name}.review.html")
    options = _options(
        option or [],
        folds=folds,
        methods=tuple(method or (Flag.ADAPTIVE,)),
        action=action,
        rounds=rounds,
        seed=seed,
        models=tuple(
            # A probe of seed 0 sees all rows, others a sample of them.
            {"judge": judge, "seed": at if judge is Judge.PROBE else seed + at}
            for at in range(models)
        ),
    )
    from training.data.keep_out import files_beside, kept_out_files, read_kept_out
    from training.reports.review import check_review_path, check_unique_ids, write_review

    inputs = [file, *files_beside(file, task), recipe, *(keep_out or ())]
    if review:
        check_review_path(review)
    table = review.with_suffix(".csv") if review else None
    check_files([out, control], inputs, others=[report, review, table], overwrite=overwrite)
    check_ending(report, ".json")
    folder = work or beside(out, "validation")
    check_files([], inputs, others=[out, control, report, review, table, folder], overwrite=True)
    if control and action is not Action.DROP:
        raise ConfigError(f"--control with --action {action}: expected --action drop, the one that it is a control of")
    from training.data.splits import write_pairs
    from training.selfvalidation.actions import drop_at_random
    from training.selfvalidation.stage import SelfValidation, validate_rows

    rows = _read(file, task, reading)
    if review:
        check_unique_ids(rows)
    held = [row for part in read_kept_out(kept_out_files(file, task, keep_out or ()), task, reading) for row in part]
    done = validate_rows(rows, SelfValidation(_recipe(recipe, overrides or [], task), options, folder, held))
    if review:
        table = write_review(review, done.flagged, task, f"Labels to review: {file.name}")
        log.info("%d flagged rows in %s and %s", len(done.flagged), review, table)
    if control:
        write_pairs(control, drop_at_random(rows, done.dropped, seed), task)
    if report:
        write_text(report, done.report.model_dump_json(indent=2) + "\n")
    write_pairs(out, done.rows, task)
    say(done.report.model_dump_json() if as_json else f"{out}: {done.report.text()}", out)


@reads_rows
def apply_review(
    file: Annotated[Path, typer.Argument(help=f"The file that was reviewed. {ROWS_HELP}")],
    decisions: Annotated[Path, typer.Argument(help="The CSV with a person's decisions: keep, drop or flip.")],
    out: Annotated[Path, typer.Argument(help=f"The file to write. {OUT_HELP}")],
    task: TaskOption,
    reading: ReadOptions = AS_IT_COMES,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Apply a person's decisions on the review list that `relevance validate` wrote."""
    from training.data.splits import write_pairs
    from training.selfvalidation import decisions as made

    check_files([out], [file, decisions], overwrite=overwrite)
    rows, report = made.apply_review(_read(file, task, reading), made.read_decisions(decisions), decisions)
    write_pairs(out, rows, task)
    say(report.model_dump_json() if as_json else f"{out}: {report.text()}", out)


def _read(path: Path, task: Task, reading: ReadOptions) -> list[LabeledPair]:
    from training.data.dataset import read_pairs

    return read_pairs(path, task, reading=reading).rows


def _recipe(path: Path, overrides: list[str], task: Task) -> "Recipe":
    from training.pipeline.recipe import load_fine_tuning

    recipe = load_fine_tuning(path, overrides)
    if recipe.task is not task:
        raise ConfigError(f"recipe {path}: task {recipe.task}; expected {task}, as --task says")
    return recipe


def _options(further: list[str], **fields: Any) -> SelfValidationOptions:
    from pydantic import ValidationError

    from relevance.card import explain

    for text in further:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--option {text!r}: expected NAME=VALUE, as in margin=0.3")
        if name in fields:
            raise ConfigError(f"--option {text!r}: {name} has an option of its own on the command line")
        fields[name] = None if value == "none" else value
    try:
        return SelfValidationOptions(**fields)
    except ValidationError as error:
        raise ConfigError(f"options: {explain(error)}") from None
