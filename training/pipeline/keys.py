"""What a stage's result depends on: its fields of the recipe, its inputs, its source and the packages behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from training.data.provenance import content_of
from training.fitting.recipe import Recipe
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.row_stages import GATE_ENCODER
from training.pipeline.stages import FINE_TUNING, STAGES
from training.pipeline.store import Ingredients
from training.sources import source_of

_TABLES = ("training.pipeline.tables:open_rows", "training.pipeline.tables:write_rows")  # which all stages use


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


def ingredients(stage: str, recipe: PipelineRecipe, inputs: Mapping[str, str]) -> Ingredients:
    """Return all that a stage's result depends on. `inputs` are content hashes of files, or keys of earlier stages.

    InputError where a file that the recipe names cannot be read, ConfigError where its base model cannot be found.
    """
    make = STAGES[stage].make
    source = source_of(f"{make.__module__}:{make.__qualname__}", *_TABLES)
    options = RecipeView(recipe, STAGES[stage].reads).content()
    return Ingredients(stage, options, dict(inputs), source.digest, source.packages)


def _base_model(name: str) -> str:
    """Return a base model's name and revision: the hash of its content, or its commit on a hub."""
    from training.models.base.base_models import resolve_base_model

    return f"{name} {resolve_base_model(name).revision}"


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
        return _base_model(str(value))
    if name == "similarity" and value is not None:  # of the gate for translations
        return f"{value} by {_base_model(GATE_ENCODER)}"
    return _backend_content(value) if name == "backend" else value


def _backend_content(name: str) -> str:
    """Return what a backend's translations depend on: the content of memory files and model folders."""
    kind, _, rest = name.partition(":")
    if kind == "memory":
        files = [Path(part) for part in rest.split(",")]
        return f"memory:{','.join(f'{file.name} {content_of(file)}' for file in files)}"
    return f"ctranslate2:{content_of(Path(rest))}" if kind == "ctranslate2" else name
