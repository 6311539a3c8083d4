"""The commands `validate` and `apply-review`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevance.errors import ConfigError
from relevance.storage.outputs import write_text
from relevance.tasks import Task
from training.commands.flat import checked, flattened
from training.commands.options import (
    OUT_HELP,
    ROWS_HELP,
    KeepOutOption,
    Output,
    Reading,
    RecipeOption,
    ReportOption,
    SeedOption,
    TaskOption,
    TrainArgument,
)
from training.data.files.writers import beside, check_ending, check_files
from training.selfvalidation.options import Action, Flag, Judge, SelfValidationOptions

if TYPE_CHECKING:
    from training.fitting.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judging:
    """Which models judge the rows, and the action on flagged rows."""

    recipe: Annotated[Path, typer.Option(help="The TOML recipe of the judges.")]
    overrides: RecipeOption = None
    folds: Annotated[int, typer.Option(help="Number of parts; models of the others judge each.", min=2)] = 5
    method: Annotated[
        list[Flag] | None, typer.Option(help="Rules that flag rows; repeat.", show_default="adaptive")
    ] = None
    action: Annotated[
        Action,
        typer.Option(help="What to do: review lists flagged rows, soften mixes every label with scores."),
    ] = Action.REVIEW
    judge: Annotated[
        list[Judge] | None,
        typer.Option(
            help="probe: over frozen embeddings; crossencoder: fine-tuned by the recipe. Repeat; relabel needs both.",
            show_default="probe",
        ),
    ] = None
    models: Annotated[int, typer.Option(help="Number of judges of each kind, with consecutive seeds.", min=1)] = 1
    rounds: Annotated[int, typer.Option(help="Number of rounds.", min=1)] = 1
    seed: SeedOption = 0
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as margin=0.3; repeat.")] = None

    def options(self) -> SelfValidationOptions:
        """Return the options of the stage. ConfigError if they are invalid."""
        # A probe with seed 0 is trained on all rows, others on a sample.
        starts = {Judge.PROBE: 0, Judge.CROSSENCODER: self.seed}
        models = [
            {"judge": kind, "seed": starts[kind] + more}
            for kind in dict.fromkeys(self.judge or (Judge.PROBE,))
            for more in range(self.models)
        ]
        values: dict[str, Any] = {
            "folds": self.folds,
            "methods": tuple(self.method or (Flag.ADAPTIVE,)),
            "action": self.action,
            "rounds": self.rounds,
            "seed": self.seed,
            "models": tuple(models),
        }
        for text in self.option or ():
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise ConfigError(f"--option {text!r}: expected NAME=VALUE, as in margin=0.3")
            if name in values:
                raise ConfigError(f"--option {text!r}: {name} has an option of its own on the command line")
            values[name] = None if value == "none" else value
        options: SelfValidationOptions = checked(SelfValidationOptions, values)
        return options

    def load(self, task: Task) -> "Recipe":
        """Load the recipe of the judges. ConfigError if it is for another task."""
        from training.pipeline.recipe import load_fine_tuning

        recipe = load_fine_tuning(self.recipe, self.overrides or ())
        if recipe.task is not task:
            raise ConfigError(f"recipe {self.recipe}: task {recipe.task}; expected {task}, as --task says")
        return recipe


@dataclass(frozen=True, slots=True)
class Files:
    """Other inputs and outputs of the command."""

    reading: Reading
    output: Output
    keep_out: KeepOutOption = None
    report: ReportOption = None
    review: Annotated[
        Path | None,
        typer.Option(
            help="Write flagged rows: a page (.html), a CSV beside.", show_default="for review: OUT.review.html"
        ),
    ] = None
    control: Annotated[Path | None, typer.Option(help="Write FILE without as many rows, chosen at random.")] = None
    work: Annotated[
        Path | None, typer.Option(help="Scores of finished folds.", show_default="OUT with .validation")
    ] = None

    def check(self, inputs: list[Path], out: Path, review: Path | None, work: Path) -> None:
        """Check the outputs before any work."""
        from training.reports.review import check_review_path

        if review:
            check_review_path(review)
        others = [self.report, review, review and review.with_suffix(".csv")]
        check_files([out, self.control], inputs, others=others, kept=work, overwrite=self.output.overwrite)
        check_ending(self.report, ".json")


@flattened
def validate(
    file: TrainArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to write: the rows left or mended. {OUT_HELP}")],
    task: TaskOption,
    judging: Judging,
    files: Files,
) -> None:
    """Find wrong labels with models that never saw the row, and list them for review. Other actions change rows.

    drop, relabel and weight change at most max_share of the rows (0.1), the worst first. soften changes every row. All
    are refused if the AUC of the judges is below least_auc (0.6): see --option. `apply-review` applies the decisions of
    a person.
    To resume an interrupted run, repeat the command. Other methods or actions reuse its models.
    """
    from training.data.dataset import store_pairs
    from training.data.keep_out import files_beside, kept_out_rows
    from training.data.splits import write_pairs
    from training.data.stored.rows import chained
    from training.reports.review import PAGE_ROWS, check_unique_ids, write_review
    from training.selfvalidation.actions import drop_at_random
    from training.selfvalidation.grounds import nearest_rows
    from training.selfvalidation.stage import SelfValidation, validate_rows

    options, work, review = judging.options(), files.work or beside(out, "validation"), files.review
    if review is None and judging.action is Action.REVIEW:
        review = out.with_name(f"{out.name}.review.html")
    keep_out = files.keep_out or ()
    files.check([file, *files_beside(file, task), judging.recipe, *keep_out], out, review, work)
    if files.control and judging.action is not Action.DROP:
        expected = "expected --action drop, the one that it is a control of"
        raise ConfigError(f"--control with --action {judging.action}: {expected}")
    rows = store_pairs(file, task, reading=files.reading).rows
    if review:
        check_unique_ids(rows)
    held = chained(*kept_out_rows(file, task, keep_out, files.reading))
    stage = SelfValidation(judging.load(task), options, work, held, lists_flagged=review is not None)
    done = validate_rows(rows, stage)
    if review:
        near = nearest_rows(rows, [each.row for each in done.flagged[:PAGE_ROWS]])
        table = write_review(review, done.flagged, task, f"Labels to review: {file.name}", near=near)
        log.info(
            "%d flagged rows in %s and %s; decide there, then run: relevance apply-review %s DECISIONS OUT --task %s",
            *(len(done.flagged), review, table, file, task.value),
        )
    if files.control:
        write_pairs(files.control, drop_at_random(rows, done.dropped, judging.seed), task)
    if files.report:
        write_text(files.report, done.report.model_dump_json(indent=2) + "\n")
    write_pairs(out, done.rows, task)
    files.output.report(done.report, out)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """How the reviewed file is read, a second annotator's decisions, and the output."""

    reading: Reading
    output: Output
    second: Annotated[Path | None, typer.Option(help="The CSV of a second annotator.")] = None


@flattened
def apply_review(
    file: Annotated[Path, typer.Argument(help=f"The file that was reviewed. {ROWS_HELP}")],
    decisions: Annotated[Path, typer.Argument(help="The CSV with a person's decisions: keep, drop or flip.")],
    out: Annotated[Path, typer.Argument(help=f"The file to write. {OUT_HELP}")],
    task: TaskOption,
    reviewed: Reviewed,
) -> None:
    """Apply people's decisions on the review list that `relevance validate` wrote.

    A row on which two annotators differ stays as it is; the report counts them and says how well they agree.
    """
    from training.data.dataset import read_pairs
    from training.data.splits import write_pairs
    from training.selfvalidation import decisions as made

    tables = [decisions, *([reviewed.second] if reviewed.second else [])]
    check_files([out], [file, *tables], overwrite=reviewed.output.overwrite)
    decided = [each for table in tables for each in made.read_decisions(table)]
    rows, report = made.apply_review(read_pairs(file, task, reading=reviewed.reading).rows, decided, decisions)
    write_pairs(out, rows, task)
    reviewed.output.report(report, out)
