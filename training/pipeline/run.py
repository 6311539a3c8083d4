"""One recipe over one store of results: each stage is made once for what goes into it, in the order of the table.

A result is found again by its key (training.pipeline.keys). Rows count by the hash of their file, so that a changed
option costs only the stages whose rows it changes; models and figures count by the key of the stage that makes them,
so that none is made for a later stage that is there already.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relevance.errors import ConfigError
from relevance.evaluation.metrics import Report
from relevance.storage.outputs import check_outputs, write_text
from training.data.files.parts import parts_of
from training.fitting.evaluation.calibration import Tuned
from training.fitting.evaluation.scorer import check_model
from training.fitting.packages import check_packages
from training.pipeline.keys import ingredients, view
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.row_stages import Datasets
from training.pipeline.stage_run import BUNDLE, CHECKPOINT, DEV, TEST, TRAIN, Caches, StageRun
from training.pipeline.stages import STAGES, maker_of
from training.pipeline.store import Ingredients, Result, Store
from training.pipeline.summary import summary
from training.pipeline.tables import open_rows
from training.translation.backends.memory_files import read_units

log = logging.getLogger(__name__)

STATE_FILE = "run.json"
PRODUCTS = {"card": "checkpoint", "export": BUNDLE}  # the stage that makes each


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run: metrics, the rows that they are of (`test` or `dev`), their logits, and the stages."""

    report: Report
    evaluated_on: str
    tuned: Tuned
    logits: Path
    stages: dict[str, Result]
    products: dict[str, Path] = field(default_factory=dict)  # `checkpoint` and `bundle`, where the run made them


class Pipeline:
    """One recipe over one store. Methods make what they return, with everything that it needs."""

    def __init__(self, recipe: PipelineRecipe, store: Store) -> None:
        if not recipe.data.train:
            raise ConfigError("data.train: no file is given; expected one (in the recipe, or --train)")
        if recipe.model != "probe":
            check_packages(recipe.fine_tuning())
        files = (*recipe.data.train, *recipe.data.dev, *recipe.data.test)
        check_outputs([store.folder], [path for path in files if path.is_dir()], overwrite=True)
        for path in files:
            parts_of(path)  # raises where one cannot be read
        _check_late(recipe)
        self.recipe, self.store = recipe, store
        self.caches = Caches(store.folder / "cache")
        self._results: dict[str, Result] = {}
        self._known: dict[str, Ingredients] = {}

    @property
    def stages(self) -> dict[str, Result]:
        """The results of this run so far, in the order of the table."""
        return {name: self._results[name] for name in STAGES if name in self._results}

    def datasets(self) -> Datasets:
        """Return the rows to train on, all data stages done, and those of dev and test."""
        paths = (self._input(name, "train" if self.recipe.model != "probe" else "probe") for name in (TRAIN, DEV, TEST))
        return Datasets(*(open_rows(result.file(file), self.recipe.task) for result, file in paths))

    def evaluate(self, *, keep_checkpoint: bool = True) -> Outcome:
        """Train (or find) the model, tune it on dev and evaluate it. Without `keep_checkpoint`, its weights go."""
        report = self.result("evaluate").manifest.report
        on = report["evaluated_on"]
        logits, file = self._input(f"{on}.logits.parquet", "evaluate")
        tuned = Tuned.model_validate(self.result("calibrate").manifest.report)
        if not keep_checkpoint and "train" in self._results:
            self.store.drop(self._results["train"], CHECKPOINT)
        return Outcome(Report.model_validate(report["metrics"]), on, tuned, logits.file(file), self.stages)

    def run(self) -> Outcome:
        """Do everything that the recipe asks for, up to the bundle, and write down where it is."""
        outcome = self.evaluate()
        for name, stage in STAGES.items():
            if stage.runs(self.recipe):
                self.result(name)
        state = {
            "recipe": self.recipe.model_dump(mode="json"),
            "stages": {name: result.folder.name for name, result in self.stages.items()},
            "evaluated_on": outcome.evaluated_on,
        }
        write_text(self.store.folder / STATE_FILE, json.dumps(state, indent=2) + "\n")
        return replace(outcome, stages=self.stages, products=self._products())

    def _products(self) -> dict[str, Path]:
        """Return the places of checkpoint and bundle: links in the folder that lead to those of this run."""
        made = {kind: self.stages[stage].file(kind) for stage, kind in PRODUCTS.items() if stage in self.stages}
        return {kind: self.store.link(kind, folder) for kind, folder in made.items()}

    def result(self, name: str) -> Result:
        """Find or make a stage's result, with the results that it needs."""
        if name not in self._results:
            made = len(self.store.made)
            self._results[name] = result = self.store.run(self._ingredients(name), lambda work: self._make(name, work))
            how = f"{result.manifest.seconds:.0f} s" if len(self.store.made) > made else "found"
            log.info("%s: %s (%s)", name, summary(result), how)
        return self._results[name]

    def _make(self, name: str, work: Path) -> Mapping[str, Any]:
        """Run a stage on its inputs. It sees of the recipe what the table says, and no more."""
        found = {each: self._input(each, name) for each in STAGES[name].inputs}
        return STAGES[name].make(StageRun(view(self.recipe, name), work, self.caches, found.__getitem__))

    def _input(self, each: str, stage: str) -> tuple[Result, str]:
        """Return the result that holds an input of a stage, and the file in it."""
        maker, file = maker_of(each, stage, self.recipe)
        result = self.result(maker)
        if not result.file(file).exists():  # the weights were dropped to save room
            self.store.drop(self._results.pop(maker))
            result = self.result(maker)
        return result, file

    def _ingredients(self, name: str) -> Ingredients:
        """Return what a stage depends on. Rows are made for it where they are not there yet, models are not."""
        if name not in self._known:
            inputs = {}
            for each in STAGES[name].inputs:
                maker, file = maker_of(each, name, self.recipe)
                is_rows = file in (TRAIN, DEV, TEST)
                inputs[each] = self.result(maker).manifest.files[file] if is_rows else self._ingredients(maker).key
            self._known[name] = ingredients(name, self.recipe, inputs)
        return self._known[name]


def _check_late(recipe: PipelineRecipe) -> None:
    """Find before the first stage what is wrong with the models and memories that late ones read. Raises as they do."""
    vet, transfer = recipe.negatives.vet, recipe.transfer
    if STAGES["mine"].runs(recipe) and vet is not None:
        check_model(vet, recipe.task, "negatives.vet")
    if transfer.enabled and transfer.teacher is not None:
        check_model(transfer.teacher, recipe.task, "transfer.teacher")
    for path in transfer.memories if transfer.enabled else ():
        read_units(path, skip_bad=transfer.skip_bad_units)
