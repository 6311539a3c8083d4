"""Out-of-fold scores: each fold scored by models that saw neither its rows nor their translations and negatives.

The scores of each fold are saved as soon as they are made, under the fingerprint of all that they depend on. A killed
run loses at most the training steps since the last snapshot of the current fold. A run with other flags or actions
trains nothing again.
"""

import functools
import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from relevance.errors import ConfigError, InputError
from relevance.evaluation.metrics import best_threshold
from relevance.model.card import explain, sigmoid
from relevance.storage.files import whole_file
from relevance.tasks import LabeledPair
from training.data.provenance import fingerprint
from training.data.stored.rows import filtered, labels_of
from training.embedding.vectors import PairEncoder
from training.fitting.evaluation.calibration import platt
from training.fitting.recipe import Recipe
from training.selfvalidation.folds import DEV, HELD, TRAIN, fold_parts
from training.selfvalidation.options import FilterModel, Judge, SelfValidationOptions
from training.sources import code_key

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Rows = Sequence[LabeledPair]
Logits = tuple[Floats, Floats]  # of the dev rows and of the rows to judge
OpenEncoder = Callable[[str], PairEncoder]  # from the name of a base model


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Scores [M, N] of M models for N rows, and the tuned threshold [M, N] of the model that gave each of them.

    `calibrated` [M, N]: the same scores, each calibrated on the dev part of its fold (Platt 1999). The rules read
    `scores`, since their defaults were set on these; a probability that becomes a target is a calibrated one.
    """

    scores: Floats
    thresholds: Floats
    calibrated: Floats
    kinds: tuple[Judge, ...]

    def by_kind(self) -> Floats:
        """Return the mean scores [K, N] of each of the K kinds of judges."""
        kinds = np.array(self.kinds)
        return np.stack([self.scores[kinds == kind].mean(axis=0) for kind in dict.fromkeys(self.kinds)])

    def pooled(self, groups: NDArray[np.int64]) -> "OutOfFold":
        """Return the mean over the rows of each of the groups [N] in place of the scores of its rows."""
        counts = np.bincount(groups)

        def mean(scores: Floats) -> Floats:
            return np.stack([(np.bincount(groups, weights=each) / counts)[groups] for each in scores])

        return replace(self, scores=mean(self.scores), calibrated=mean(self.calibrated))


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What a model says of the rows of one fold: scores [N], the same calibrated [N], and its tuned threshold."""

    scores: Floats
    calibrated: Floats
    threshold: float


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """What the rows of one fold's plan are for: `part` [N] is HELD (to score), or of the other folds TRAIN or DEV."""

    part: NDArray[np.int8]

    @property
    def held(self) -> NDArray[np.bool_]:
        """True [N] for the rows to score."""
        return self.part == HELD

    @property
    def train(self) -> NDArray[np.bool_]:
        """True [N] for the rows to train on."""
        return self.part == TRAIN

    @property
    def dev(self) -> NDArray[np.bool_]:
        """True [N] for the rows to calibrate on."""
        return self.part == DEV


def plan_folds(rows: Sequence[LabeledPair], options: SelfValidationOptions) -> list[FoldPlan]:
    """Return one plan for each fold. InputError where groups are too few, or a part would lack a label."""
    labels = labels_of(rows)
    plans = list(map(FoldPlan, fold_parts(rows, options.folds, options.dev_share, options.seed)))
    for fold, plan in enumerate(plans, start=1):
        for name, part in (("training", plan.train), ("dev", plan.dev)):
            if len(np.unique(labels[part])) < 2:
                raise InputError(
                    f"the {name} part of fold {fold} of {options.folds}: {part.sum()} rows, not of both labels; "
                    "expected more rows, fewer folds or a larger dev share"
                )
    return plans


def model_recipe(recipe: Recipe, model: FilterModel, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe changed by `settings`, then by the model's own and its seed. ConfigError names every fault."""
    content = _merged(_merged(recipe.model_dump(), settings), model.settings) | {"seed": model.seed}
    try:
        changed = Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"self-validation settings: {explain(error)}") from None
    if changed.task is not recipe.task:
        raise ConfigError(f"self-validation settings: task {changed.task}; expected {recipe.task}, that of the recipe")
    # A judge learns from no teacher: it may have learnt from the labels that are to be judged.
    return changed.model_copy(update={"training": changed.training.model_copy(update={"teacher": None})})


def out_of_fold(
    rows: Sequence[LabeledPair],
    recipe: Recipe,
    options: SelfValidationOptions,
    work: Path,
    encoder: OpenEncoder | None = None,
    rounds_done: int = 0,
) -> OutOfFold:
    """Train every model on all folds but one, for each fold, and score that fold; `work` keeps finished scores.

    `encoder` opens the pair encoder of probes over a base model. `rounds_done` shifts the seed of the folds, so that
    each round has others. Raises as `plan_folds`, `model_recipe` and training.fitting.checkpoint.train do, before the
    first training where it can.
    """
    from training.models.base.base_models import resolve_base_model

    plans = plan_folds(rows, options.model_copy(update={"seed": options.seed + 104729 * rounds_done}))
    recipes = [model_recipe(recipe, model, options.settings) for model in options.models]
    judges = [
        _Judge(model.judge, each, resolve_base_model(each.base_model).revision, work, encoder)
        for model, each in zip(options.models, recipes, strict=True)
    ]
    scores, thresholds, calibrated = np.zeros((3, len(recipes), len(rows)))
    content = fingerprint(rows=[rows])
    for m, judge in enumerate(judges):
        for k, plan in enumerate(plans):
            place = (rounds_done + 1, m + 1, len(recipes), k + 1, len(plans))
            log.info("round %d, model %d of %d, fold %d of %d", *place)
            found = judge.fold_scores(rows, plan, content)
            scores[m, plan.held], calibrated[m, plan.held] = found.scores, found.calibrated
            thresholds[m, plan.held] = found.threshold
    return OutOfFold(scores, thresholds, calibrated, tuple(model.judge for model in options.models))


class _Judge:
    """A model that is trained once for each fold; `work` keeps its scores."""

    def __init__(
        self, kind: Judge, recipe: Recipe, revision: str, work: Path, encoder: OpenEncoder | None = None
    ) -> None:
        self._kind, self._recipe, self._revision, self._work = kind, recipe, revision, work
        self._open_encoder = functools.cache(encoder or self._cached_encoder)

    def key(self, content: str) -> str:
        """Return the fingerprint of all that the scores of a fold depend on; `content` is that of its rows."""
        if self._kind is Judge.PROBE:  # which reads little of the recipe
            settings = self._recipe.model_dump_json(include={"task", "seed", "format"})
            code = code_key("training.models.probe:Probe", "training.models.encoder_embedder:EncoderEmbedder")
        else:
            settings = self._recipe.model_dump_json(exclude={"name", "base_model"})
            code = code_key("training.fitting.checkpoint:_train", "training.fitting.evaluation.report:score_logits")
        code += code_key("training.fitting.evaluation.calibration:platt")
        return fingerprint(self._kind, settings, self._revision, code, content)[:32]

    def fold_scores(self, rows: Rows, plan: FoldPlan, content: str) -> FoldScores:
        """Return the scores of a fold's rows and the threshold of their model, from disk where they are there.

        `content` is the fingerprint of the rows. In memory are the scores, and what a judge holds.
        """
        key = self.key(f"{content} {hashlib.sha256(plan.part.tobytes()).hexdigest()}")
        file, count = self._work / "scores" / f"{key}.npz", int(plan.held.sum())
        if file.is_file():
            return _load(file, count)
        train_rows, dev_rows, held_rows = (filtered(rows, part) for part in (plan.train, plan.dev, plan.held))
        log.info("%d rows to train on, %d for dev, %d to judge", len(train_rows), len(dev_rows), len(held_rows))
        model = self._work / f"model-{key}"
        if self._kind is Judge.PROBE:
            dev, held = self._by_probe(train_rows, dev_rows, held_rows)
        else:
            dev, held = self._by_crossencoder(train_rows, dev_rows, held_rows, model)
        labels = labels_of(dev_rows)
        threshold = best_threshold(labels, sigmoid(dev))[0]
        _save(file, FoldScores(sigmoid(held), platt(labels, dev).scores(held), threshold))
        for leftover in (model, model.with_name(f".{model.name}.work")):
            shutil.rmtree(leftover, ignore_errors=True)
        return _load(file, count)

    def _by_crossencoder(self, train_rows: Rows, dev_rows: Rows, held_rows: Rows, model: Path) -> Logits:
        # Heavy: torch and transformers come with them.
        from training.fitting.checkpoint import Job, dev_logits, train
        from training.fitting.evaluation.report import score_logits

        if not model.exists():  # else the run was killed between training and scoring
            train(Job(self._recipe, train_rows, list(dev_rows), model, tuned=False))
        return dev_logits(model).astype(np.float64), score_logits(model, list(held_rows))[1].astype(np.float64)

    def _by_probe(self, train_rows: Rows, dev_rows: Rows, held_rows: Rows) -> Logits:
        from training.models.probe import Probe

        probe = Probe(self._open_encoder(self._recipe.base_model), self._recipe.task, self._recipe.seed).fit(train_rows)
        return probe.logits(dev_rows), probe.logits(held_rows)

    def _cached_encoder(self, name: str) -> PairEncoder:
        from training.embedding.vectors import CachedEncoder
        from training.models.encoder_embedder import EncoderEmbedder

        return CachedEncoder(EncoderEmbedder(name), self._work.parent / "embeddings")


def _save(file: Path, found: FoldScores) -> None:
    with whole_file(file) as beside, beside.open("wb") as stream:
        np.savez(stream, scores=found.scores, calibrated=found.calibrated, threshold=np.float64(found.threshold))


def _load(file: Path, rows: int) -> FoldScores:
    try:
        with np.load(file, allow_pickle=False) as held:
            found = FoldScores(held["scores"], held["calibrated"], float(held["threshold"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"scores {file}: cannot be read ({error}); delete the file to compute them anew") from None
    if found.scores.shape != (rows,):
        raise InputError(f"scores {file}: shape {found.scores.shape}, expected ({rows},); delete the file")
    return found


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, section by section."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged
