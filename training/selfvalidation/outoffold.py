"""Out-of-fold scores: each fold scored by models that saw neither its rows nor their translations and negatives.

Every fold's scores go to disk as they come, under the fingerprint of all that they depend on. A run that was killed
loses at most the training steps since the last snapshot of the fold in hand, and a run with other flags or actions
trains nothing anew.
"""

import logging
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from relevance.card import explain
from relevance.errors import ConfigError, InputError
from relevance.files import whole_file
from relevance.formatting import FORMAT_VERSION
from relevance.tasks import LabeledPair
from training.provenance import fingerprint
from training.recipe import Recipe
from training.selfvalidation.folds import assign_folds, dev_part
from training.selfvalidation.options import FilterModel, SelfValidationOptions

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Scores [M, N] of M models for N rows, and the tuned threshold [M, N] of the model that gave each of them."""

    scores: Floats
    thresholds: Floats


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """The row numbers of one fold: those to score, and those of the other folds, to train on and for dev."""

    held: NDArray[np.int64]
    train: NDArray[np.int64]
    dev: NDArray[np.int64]


def plan_folds(rows: Sequence[LabeledPair], options: SelfValidationOptions) -> list[FoldPlan]:
    """Return one plan a fold. InputError where groups are too few, or a part would lack a label."""
    folds = assign_folds(rows, options.folds, options.seed)
    labels = np.array([row.label for row in rows])
    plans = []
    for fold in range(options.folds):
        others = np.flatnonzero(folds != fold)
        is_dev = dev_part([rows[i] for i in others], options.dev_share, options.seed + fold)
        plan = FoldPlan(np.flatnonzero(folds == fold), others[~is_dev], others[is_dev])
        for name, part in (("training", plan.train), ("dev", plan.dev)):
            if set(labels[part]) != {0, 1}:
                raise InputError(
                    f"the {name} part of fold {fold + 1} of {options.folds}: {len(part)} rows, not of both labels; "
                    "expected more rows, fewer folds or a larger dev share"
                )
        plans.append(plan)
    return plans


def model_recipe(recipe: Recipe, model: FilterModel, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with `settings`, the model's own and its seed over it. ConfigError names every fault."""
    content = _merged(_merged(recipe.model_dump(), settings), model.settings) | {"seed": model.seed}
    try:
        changed = Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"self-validation settings: {explain(error)}") from None
    if changed.task is not recipe.task:
        raise ConfigError(f"self-validation settings: task {changed.task}; expected {recipe.task}, that of the recipe")
    return changed


def out_of_fold(
    rows: Sequence[LabeledPair], recipe: Recipe, options: SelfValidationOptions, work: Path, rounds_done: int = 0
) -> OutOfFold:
    """Train every model on every fold's complement and score the fold; `work` keeps what is finished.

    `rounds_done` shifts the seed of the folds, so that each round deals them anew. Raises as `plan_folds`,
    `model_recipe` and training.checkpoint.train do, before the first training where it can.
    """
    from training.encoders import resolve_base_model

    plans = plan_folds(rows, options.model_copy(update={"seed": options.seed + 104729 * rounds_done}))
    recipes = [model_recipe(recipe, model, options.settings) for model in options.models]
    revisions = [resolve_base_model(each.base_model).revision for each in recipes]
    scores, thresholds = np.zeros((2, len(recipes), len(rows)))
    for m, (each, revision) in enumerate(zip(recipes, revisions, strict=True)):
        for k, plan in enumerate(plans):
            place = (rounds_done + 1, m + 1, len(recipes), k + 1, len(plans))
            log.info("round %d, model %d of %d, fold %d of %d", *place)
            found, threshold = _fold_scores(rows, plan, each, revision, work)
            scores[m, plan.held], thresholds[m, plan.held] = found, threshold
    return OutOfFold(scores, thresholds)


def _fold_scores(
    rows: Sequence[LabeledPair], plan: FoldPlan, recipe: Recipe, revision: str, work: Path
) -> tuple[Floats, float]:
    """Return the scores of a fold's rows and the threshold of their model, from disk where they are there already."""
    train_rows, dev_rows, held_rows = ([rows[i] for i in part] for part in (plan.train, plan.dev, plan.held))
    parts = (recipe.model_dump_json(), revision, str(FORMAT_VERSION))
    key = fingerprint(*parts, rows=(train_rows, dev_rows, held_rows))[:32]
    file = work / "scores" / f"{key}.npz"
    if file.is_file():
        return _load(file, len(held_rows))
    # Heavy: torch and transformers come with them.
    from training.checkpoint import Job, train
    from training.evaluation import score_rows

    model = work / f"model-{key}"
    if not model.exists():  # else the run was killed between training and scoring
        log.info("%d rows to train on, %d for dev, %d to judge", len(train_rows), len(dev_rows), len(held_rows))
        train(Job(recipe, train_rows, dev_rows, model))
    card, scores = score_rows(model, held_rows)
    with whole_file(file) as beside, beside.open("wb") as stream:
        np.savez(stream, scores=np.asarray(scores, dtype=np.float64), threshold=np.float64(card.threshold))
    for leftover in (model, model.with_name(f".{model.name}.work")):
        shutil.rmtree(leftover, ignore_errors=True)
    return _load(file, len(held_rows))


def _load(file: Path, rows: int) -> tuple[Floats, float]:
    try:
        with np.load(file, allow_pickle=False) as held:
            scores, threshold = held["scores"], float(held["threshold"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"scores {file}: cannot be read ({error}); delete the file to compute them anew") from None
    if scores.shape != (rows,):
        raise InputError(f"scores {file}: shape {scores.shape}, expected ({rows},); delete the file")
    return scores, threshold


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, section by section."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged
