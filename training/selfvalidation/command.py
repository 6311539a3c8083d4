"""The commands `validate` and `apply-review`: they parse, call one function and report."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Task
from training.selfvalidation.options import Action, Flag, Judge, SelfValidationOptions

if TYPE_CHECKING:
    from training.recipe import Recipe

log = logging.getLogger(__name__)

TaskOption = Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")]


def validate(
    file: Annotated[Path, typer.Argument(help="Labelled pairs to train on.")],
    out: Annotated[Path, typer.Argument(help="The file to write: the rows left or mended (JSON lines).")],
    task: TaskOption,
    recipe: Annotated[Path, typer.Option(help="The TOML recipe of the judges.")],
    folds: Annotated[int, typer.Option(help="Into so many parts; each is judged by models of the others.", min=2)] = 5,
    method: Annotated[list[Flag] | None, typer.Option(help="Rules that flag rows; repeat. [adaptive]")] = None,
    action: Annotated[Action, typer.Option(help="What becomes of flagged rows; review: nothing.")] = Action.DROP,
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
    review: Annotated[Path | None, typer.Option(help="Write flagged rows: a page (.html) and a CSV beside.")] = None,
    control: Annotated[Path | None, typer.Option(help="Write FILE less as many rows, dropped at random.")] = None,
    work: Annotated[Path | None, typer.Option(help="Scores of finished folds [OUT with .validation].")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, as margin=0.3; repeat.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeat.")] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find wrong labels by models that never saw the row: drop, relabel or down-weight them, or list them for review.

    A run that was killed goes on when the same command is given again; other flags or actions then train nothing anew.
    """
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
    _check_outputs(file, [out, report, review, control], overwrite)
    if control and action is not Action.DROP:
        raise ConfigError(f"--control with --action {action}: expected --action drop, the one that it is a control of")
    from training.keepout import kept_out_files, read_kept_out
    from training.selfvalidation.actions import drop_at_random
    from training.selfvalidation.review import check_review_path, check_unique_ids, write_review
    from training.selfvalidation.stage import SelfValidation, validate_rows
    from training.splits import write_pairs

    rows = _read(file, task)
    if review:
        check_review_path(review)
        check_unique_ids(rows)
    folder = work or out.with_name(f"{out.name}.validation")
    held = [row for part in read_kept_out(kept_out_files(file, task, keep_out or ()), task) for row in part]
    done = validate_rows(rows, SelfValidation(_recipe(recipe, overrides or [], task), options, folder, held))
    if review:
        table = write_review(review, done.flagged, task, f"Labels to review: {file.name}")
        log.info("%d flagged rows in %s and %s", len(done.flagged), review, table)
    if control:
        write_pairs(control, drop_at_random(rows, done.dropped, seed), task)
    if report:
        _write_text(report, done.report.model_dump_json(indent=2) + "\n")
    write_pairs(out, done.rows, task)
    print(done.report.model_dump_json() if as_json else f"{out}: {done.report.text()}")


def apply_review(
    file: Annotated[Path, typer.Argument(help="The file that was reviewed.")],
    decisions: Annotated[Path, typer.Argument(help="The CSV with a person's decisions: keep, drop or flip.")],
    out: Annotated[Path, typer.Argument(help="The file to write (JSON lines).")],
    task: TaskOption,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Apply a person's decisions on the review list that `relevance validate` wrote."""
    from training.selfvalidation import decisions as made
    from training.splits import write_pairs

    _check_outputs(file, [out], overwrite)
    rows, report = made.apply_review(_read(file, task), made.read_decisions(decisions), decisions)
    write_pairs(out, rows, task)
    print(report.model_dump_json() if as_json else f"{out}: {report.text()}")


def _read(path: Path, task: Task) -> list[LabeledPair]:
    from training.dataset import read_pairs

    return read_pairs(path, task).rows


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


def _check_outputs(file: Path, outputs: list[Path | None], overwrite: bool) -> None:
    """Raise where an output is the input, stands twice, or is there already."""
    paths = [path for path in outputs if path]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"outputs {', '.join(map(str, paths))}: expected a file of its own for each")
    for path in paths:
        if path.exists() and file.exists() and path.samefile(file):
            raise InputError(f"{path}: is the file to be read; expected another file to write")
        if path.exists() and not overwrite:
            raise ConfigError(f"output {path}: exists already; expected a new file, or --overwrite")


def _write_text(path: Path, text: str) -> None:
    from relevance.files import whole_file

    try:
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); expected a file in an open folder") from error
