"""The table of stages: what each reads of the recipe, what goes in and what comes out.

A stage gets a view of the recipe that holds the fields named here and nothing else, and its key is made of the same
fields. So a result depends on no field that its key lacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from training.data.provenance import content_of
from training.fitting.recipe import Recipe
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.store import Ingredients
from training.sources import source_of

TRAIN, DEV, TEST = "train.parquet", "dev.parquet", "test.parquet"
CHECKPOINT, BUNDLE = "checkpoint", "bundle"
DEV_LOGITS, TEST_LOGITS = "dev.logits.parquet", "test.logits.parquet"
DATA_STAGES = ("read", "clean", "split", "translate", "mine", "filter")
FINE_TUNING = tuple(name for name in Recipe.model_fields if name != "name")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `inputs` are files of earlier stages, by content; or earlier stages, by key."""

    reads: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


STAGES = {
    "read": Stage(("task", "data", "split.seed"), (), (TRAIN, DEV, TEST)),
    "clean": Stage(("task", "cleaning"), (TRAIN,), (TRAIN,)),
    "split": Stage(("task", "split"), (TRAIN, f"read {TRAIN}", f"read {DEV}", f"read {TEST}"), (TRAIN, DEV, TEST)),
    "translate": Stage(("task", "translation"), (TRAIN, DEV, TEST), (TRAIN,)),
    "mine": Stage(("task", "negatives", "base_model"), (TRAIN, DEV, TEST), (TRAIN,)),
    "filter": Stage(("filtering", *FINE_TUNING), (TRAIN, DEV, TEST), (TRAIN,)),
    "train": Stage(FINE_TUNING, (TRAIN, DEV), (CHECKPOINT,)),
    "score": Stage(("task", "model", "base_model"), (TRAIN, DEV, TEST, "train"), (DEV_LOGITS, TEST_LOGITS)),
    "calibrate": Stage(("calibration",), ("score",), ()),
    "evaluate": Stage(("seed",), ("score", "calibrate"), ()),
    "card": Stage(("name",), ("train", "calibrate", "evaluate"), (CHECKPOINT,)),
    "export": Stage(("export",), ("card",), (BUNDLE,)),
}


class RecipeView:
    """The fields of a recipe that a stage declares, as `task` or `split.seed`. AttributeError for any other."""

    def __init__(self, recipe: BaseModel, reads: Sequence[str]) -> None:
        self._recipe = recipe
        self._whole = {name for name in reads if "." not in name}
        self._parts: dict[str, list[str]] = {}
        for section, dot, field in (name.partition(".") for name in reads):
            if dot:
                self._parts.setdefault(section, []).append(field)

    def __getattr__(self, name: str) -> Any:
        """Return a declared field, or a view of a section of which parts are declared."""
        if name in self._whole:
            return getattr(self._recipe, name)
        if name in self._parts:
            return RecipeView(getattr(self._recipe, name), self._parts[name])
        raise AttributeError(f"recipe field {name!r}: not among those that this stage declares in STAGES")

    def fine_tuning(self) -> Recipe:
        """Return the part that fine-tuning depends on, under the task's name: the card stage puts in the recipe's."""
        return Recipe.model_validate({"name": str(self.task)} | {name: getattr(self, name) for name in FINE_TUNING})

    def content(self) -> dict[str, Any]:
        """Return the declared fields as JSON can hold them, files and models by their contents."""
        whole = {name: _described(getattr(self._recipe, name), name) for name in self._whole}
        parts = {name: RecipeView(getattr(self._recipe, name), of) for name, of in self._parts.items()}
        return whole | {name: part.content() for name, part in parts.items()}


def view(recipe: PipelineRecipe, stage: str) -> PipelineRecipe:
    """Return the recipe as a stage may see it."""
    return cast(PipelineRecipe, RecipeView(recipe, STAGES[stage].reads))


def ingredients(
    stage: str, recipe: PipelineRecipe, inputs: Mapping[str, str], facts: Mapping[str, Any] | None = None
) -> Ingredients:
    """Return all that a stage's result depends on. `inputs` are content hashes or keys, `facts` what the inputs imply.

    InputError where a file that the recipe names cannot be read, ConfigError where its base model cannot be found.
    """
    source = source_of(f"training.pipeline.run:Pipeline._{stage}")
    options = RecipeView(recipe, STAGES[stage].reads).content() | dict(facts or {})
    return Ingredients(stage, options, dict(inputs), source.digest, source.packages)


def base_revision(name: str) -> str:
    """Return the revision of a base model: the hash of its content, or its commit on a hub."""
    from training.models.base_models import resolve_base_model

    return resolve_base_model(name).revision


def _described(value: Any, name: str) -> Any:
    if isinstance(value, BaseModel):
        return {field: _described(getattr(value, field), field) for field in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _described(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_described(each, "backend" if name == "backends" else "") for each in value]
    if isinstance(value, Path):
        return f"{value.name} {content_of(value)}"
    if name == "base_model":
        return f"{value} {base_revision(str(value))}"
    return _backend_content(value) if name == "backend" else value


def _backend_content(name: str) -> str:
    """Return what a backend's translations depend on: the content of memory files and model folders."""
    kind, _, rest = name.partition(":")
    if kind == "memory":
        files = [Path(part) for part in rest.split(",")]
        return f"memory:{','.join(f'{file.name} {content_of(file)}' for file in files)}"
    return f"ctranslate2:{content_of(Path(rest))}" if kind == "ctranslate2" else name
