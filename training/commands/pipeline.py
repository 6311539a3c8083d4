"""The commands `pipeline run` and `pipeline show`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.flat import flattened
from training.commands.models.evaluate import print_metrics
from training.commands.options import JsonOption, Reading, RecipeOption, SkipOption

if TYPE_CHECKING:
    from training.pipeline.recipe import PipelineRecipe

pipeline = typer.Typer(help="Run a recipe from rows to bundle; show what each stage did.", no_args_is_help=True)

FilesOption = Annotated[list[Path] | None, typer.Option(help="Override the recipe's files; repeat.")]


@dataclass(frozen=True, slots=True)
class RecipeData:
    """Options that override the recipe of a pipeline."""

    reading: Reading
    train: FilesOption = None
    dev: FilesOption = None
    test: FilesOption = None
    skip_bad_rows: SkipOption = False
    overrides: RecipeOption = None

    def load(self, path: Path) -> "PipelineRecipe":
        """Load a recipe and apply the overrides."""
        from training.pipeline.recipe import PipelineRecipe

        files = {"train": self.train, "dev": self.dev, "test": self.test}
        given = {name: [str(path) for path in paths] for name, paths in files.items() if paths}
        overrides = [f"data.{name}={json.dumps(paths)}" for name, paths in given.items()]
        overrides += ["data.skip_bad_rows=true"] * self.skip_bad_rows
        recipe = PipelineRecipe.load(path, [*(self.overrides or ()), *overrides])
        return recipe.model_copy(update={"data": recipe.data.read_as(self.reading)})


@pipeline.command()
@flattened
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, see configs/.")],
    data: RecipeData,
    out: Annotated[
        Path | None, typer.Argument(help="The folder to work in.", show_default="build/pipeline/NAME")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the stages of a recipe: clean, split, translate, mine, filter, transfer, train, calibrate, evaluate, export.

    OUT/bundle leads to the bundle, OUT/checkpoint to the checkpoint. Results in OUT are reused: a rerun repeats only
    stages that changed, and an interrupted run resumes.
    """
    from training.pipeline.run import Pipeline
    from training.pipeline.store import Store

    chosen = data.load(recipe)
    store = Store(out or Path("build") / "pipeline" / chosen.name)
    with store.locked():
        outcome = Pipeline(chosen, store).run()
    if as_json:
        stages = {name: str(result.folder) for name, result in outcome.stages.items()}
        found = {"out": str(store.folder), "made": store.made, "found": store.found, "stages": stages}
        found |= {"evaluated_on": outcome.evaluated_on, "metrics": outcome.report.model_dump(mode="json")}
        print(json.dumps(found))
        return
    flattering = "" if outcome.evaluated_on == "test" else " (the rows that threshold and calibration were tuned on)"
    title = f"{chosen.name} on {outcome.evaluated_on}{flattering}"
    print_metrics(outcome.report, title, as_json=False)
    for kind, folder in outcome.products.items():
        print(f"{kind}: {folder}")


@pipeline.command()
def show(
    out: Annotated[Path, typer.Argument(help="A folder that `relevance pipeline run` worked in.")],
    row: Annotated[str | None, typer.Option(help="The id of a row: show what each stage did with it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the inputs and outputs of each stage of the last run, or the history of one row."""
    from training.pipeline.show import describe_row, describe_run, read_run

    last = read_run(out)
    found = describe_run(last) if row is None else describe_row(last, row)
    print(json.dumps([event.model_dump() for event in found]) if as_json else "\n".join(map(str, found)))
