"""The table of stages: the function of each, what it reads of the recipe, what goes in, what comes out, when it runs.

A stage gets a view of the recipe that holds the fields named here and nothing else, and its key is made of the same
fields (training.pipeline.keys). So a result depends on no field that its key lacks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from training.fitting.recipe import Recipe
from training.pipeline import model_stages as model
from training.pipeline import row_stages as rows
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.stage_run import (
    BUNDLE,
    CHECKPOINT,
    DEV,
    DEV_LOGITS,
    TEST,
    TEST_LOGITS,
    TRAIN,
    Report,
    StageRun,
)

FINE_TUNING = tuple(name for name in Recipe.model_fields if name != "name")


def _always(_: PipelineRecipe) -> bool:
    return True


def _where(section: str) -> Callable[[PipelineRecipe], bool]:
    return lambda recipe: bool(getattr(recipe, section).enabled)


def _mines(recipe: PipelineRecipe) -> bool:
    return recipe.negatives.enabled and recipe.negatives.strategy != "none"


def _fine_tunes(recipe: PipelineRecipe) -> bool:
    return recipe.model == "crossencoder"


def _probes(recipe: PipelineRecipe) -> bool:
    return recipe.model == "probe"


def _exports(recipe: PipelineRecipe) -> bool:
    return _fine_tunes(recipe) and recipe.export.enabled


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    `inputs` are names of files, each of the last stage before this one that makes it; `STAGE FILE`, of that stage; or
    the name of a stage, for its report.
    """

    make: Callable[[StageRun], Report]
    reads: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runs: Callable[[PipelineRecipe], bool] = _always


_RAW = (f"read {TRAIN}", f"read {DEV}", f"read {TEST}")
_SEEN = f"split {TRAIN}"  # whose languages are those that training has seen

_ROWS = (TRAIN, DEV, TEST)
STAGES = {
    "read": Stage(rows.read, ("task", "data", "split.seed"), (), _ROWS),
    "clean": Stage(rows.clean_rows, ("task", "cleaning"), (TRAIN,), (TRAIN,), _where("cleaning")),
    "split": Stage(rows.split, ("task", "split"), (TRAIN, *_RAW), _ROWS),
    "translate": Stage(rows.translate, ("task", "translation"), _ROWS, (TRAIN,), _where("translation")),
    "mine": Stage(rows.mine, ("task", "negatives", "base_model"), (TRAIN,), (TRAIN,), _mines),
    "filter": Stage(rows.filter_rows, ("filtering", *FINE_TUNING), _ROWS, (TRAIN,), _where("filtering")),
    "transfer": Stage(model.transfer, ("transfer", *FINE_TUNING), _ROWS, (TRAIN,), _where("transfer")),
    "train": Stage(model.train, FINE_TUNING, (TRAIN, DEV), (CHECKPOINT, DEV_LOGITS), _fine_tunes),
    "score": Stage(model.score, ("task",), (TEST, CHECKPOINT), (TEST_LOGITS,), _fine_tunes),
    "probe": Stage(model.probe, ("task", "model", "base_model"), _ROWS, (DEV_LOGITS, TEST_LOGITS), _probes),
    "calibrate": Stage(model.calibrate, ("task", "calibration"), (DEV, DEV_LOGITS, _SEEN), ()),
    "evaluate": Stage(
        model.evaluate_stage, ("task", "seed"), (DEV, TEST, DEV_LOGITS, TEST_LOGITS, _SEEN, "calibrate"), ()
    ),
    "card": Stage(
        model.card,
        ("name", "task"),
        (*_ROWS, CHECKPOINT, DEV_LOGITS, TEST_LOGITS, "calibrate", "evaluate"),
        (CHECKPOINT,),
        _fine_tunes,
    ),
    "export": Stage(model.export, ("export",), (CHECKPOINT,), (BUNDLE,), _exports),
}
ROW_STAGES = tuple(name for name, stage in STAGES.items() if TRAIN in stage.outputs)


def maker_of(name: str, before: str, recipe: PipelineRecipe) -> tuple[str, str]:
    """Return the stage that makes an input of the stage `before`, and its file (empty: the report)."""
    stage, _, file = name.rpartition(" ")
    if stage:
        return stage, file
    if name in STAGES:
        return name, ""
    earlier = list(STAGES)[: list(STAGES).index(before)]
    makers = [each for each in earlier if name in STAGES[each].outputs and STAGES[each].runs(recipe)]
    return makers[-1], name
