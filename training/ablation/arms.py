"""The arms of an ablation: which pipelines are run, and which is compared with which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relevance.errors import ConfigError
from training.pipeline.recipe import PipelineRecipe
from training.selfvalidation.options import Action

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Arm:
    """One pipeline under a name, and the names of the arms that it is compared with."""

    name: str
    recipe: PipelineRecipe
    against: tuple[str, ...] = ()


def standard_arms(recipe: PipelineRecipe, only: Sequence[str] = ()) -> list[Arm]:
    """Return the arms for a recipe: the strategies one by one, those that it has options for.

    The baseline; translation, where the recipe has backends; on top of that random, easy and hard negatives, filtering,
    and the same number of rows dropped at random (the control of a filter that drops); transfer, where the recipe has
    memories and targets, and a teacher if the model is a probe; and all strategies together.
    `only` keeps the arms of these names, and the baseline. ConfigError for a name that is none.
    """
    # What filtering is worth is measured here, also where it would be capped or refused elsewhere.
    recipe = _changed(recipe, "filtering", max_share=1.0, least_auc=0.0)
    has_transfer = _can_transfer(recipe)
    off = _switched(recipe, translation=False, negatives=False, filtering=False, transfer=False)
    arms = [Arm(BASELINE, off)]
    base, prefix = BASELINE, ""
    if recipe.translation.backends:
        off = _switched(off, translation=True)
        base, prefix = "translation", "translation, "
        arms.append(Arm(base, off, (BASELINE,)))
    for strategy in ("random", "easy", "hard"):
        with_negatives = _changed(_switched(off, negatives=True), "negatives", strategy=strategy)
        arms.append(Arm(f"{prefix}{strategy} negatives", with_negatives, (base,)))
    dropped, filtered = f"{prefix}random dropping", f"{prefix}filtering"
    against = [base]
    if recipe.filtering.action is Action.DROP:
        control = _changed(_switched(off, filtering=True), "filtering", control=True)
        arms.append(Arm(dropped, control, (base,)))
        against.append(dropped)
    arms.append(Arm(filtered, _switched(off, filtering=True), tuple(against)))
    if has_transfer:
        arms.append(Arm(f"{prefix}transfer", _switched(off, transfer=True), (base,)))
    every = _switched(off, negatives=True, filtering=True, transfer=has_transfer)
    arms.append(Arm("all strategies", every, (BASELINE,)))
    return _kept(arms, only)


def with_seed(recipe: PipelineRecipe, run: int) -> PipelineRecipe:
    """Return the recipe of a run: `run` is added to every seed, but for the split's: all runs share a test set."""
    changed = recipe.model_copy(update={"seed": recipe.seed + run})
    sections = ["negatives", "filtering", "transfer"]
    if recipe.translation.rows_per_language is not None:  # else all rows are made, whatever the seed
        sections.append("translation")
    for section in sections:
        changed = _changed(changed, section, seed=getattr(recipe, section).seed + run)
    return changed


def _can_transfer(recipe: PipelineRecipe) -> bool:
    given = recipe.transfer
    return bool(given.memories and given.targets) and (given.teacher is not None or recipe.model != "probe")


def _kept(arms: list[Arm], only: Sequence[str]) -> list[Arm]:
    names = [arm.name for arm in arms]
    for name in only:
        if name not in names:
            raise ConfigError(f"--only {name!r}: no such arm; expected some of {', '.join(names)}")
    kept = {BASELINE, *only} if only else set(names)
    return [Arm(a.name, a.recipe, tuple(n for n in a.against if n in kept)) for a in arms if a.name in kept]


def _switched(recipe: PipelineRecipe, **enabled: bool) -> PipelineRecipe:
    for section, value in enabled.items():
        recipe = _changed(recipe, section, enabled=value)
    return recipe


def _changed(recipe: PipelineRecipe, section: str, **values: Any) -> PipelineRecipe:
    content = getattr(recipe, section).model_dump() | values
    return recipe.model_copy(update={section: type(getattr(recipe, section)).model_validate(content)})
