"""The pipeline: each stage is made once for what goes into it, in the order clean, split, translate, mine, filter,
train, score, calibrate, evaluate, card, export.

A stage's result is found again by its key (training.pipeline.store). Rows are kept as Parquet and named by the hash of
the file, so that a changed option costs only the stages whose rows it changes.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance.card import Calibration
from relevance.errors import ConfigError
from relevance.metrics import Report
from relevance.outputs import check_outputs, write_text
from relevance.tasks import LabeledPair
from training.fitting.calibration import Tuned, tune
from training.fitting.thresholds import seen_languages
from training.pipeline import datastages, modelstages
from training.pipeline.datastages import Caches, Datasets
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.stages import (
    CHECKPOINT,
    DATA_STAGES,
    DEV,
    DEV_LOGITS,
    TEST,
    TEST_LOGITS,
    TRAIN,
    base_revision,
    ingredients,
    view,
)
from training.pipeline.store import Result, Store
from training.pipeline.summary import summary
from training.pipeline.tables import read_rows, write_rows

Make = Callable[[PipelineRecipe, Path], dict[str, Any]]  # writes into a folder, returns the report
RowsStage = Callable[[Datasets, PipelineRecipe, Caches], tuple[list[LabeledPair], dict[str, Any]]]

log = logging.getLogger(__name__)

STATE_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: the metrics, what they were measured on (`test` or `dev`), and the stages in order."""

    report: Report
    evaluated_on: str
    tuned: Tuned
    stages: dict[str, Result]


class Pipeline:
    """One recipe over one store. Methods make what they return, with everything that it needs."""

    def __init__(self, recipe: PipelineRecipe, store: Store) -> None:
        if not recipe.data.train:
            raise ConfigError("data.train: no file is given; expected one (in the recipe, or --train)")
        files = (*recipe.data.train, *recipe.data.dev, *recipe.data.test)
        check_outputs([store.folder], [path for path in files if path.is_dir()], overwrite=True)
        self.recipe, self.store = recipe, store
        self.caches = Caches(store.folder / "cache")
        self.stages: dict[str, Result] = {}
        self._rows: dict[Path, list[LabeledPair]] = {}

    def datasets(self) -> Datasets:
        """Return the rows to train on, all data stages done, and those of dev and test."""
        split = self._split()
        last = self._filter(self._mine(self._translate(split)))
        return Datasets(self._load(last, TRAIN), self._load(split, DEV), self._load(split, TEST))

    def evaluate(self, *, keep_checkpoint: bool = True) -> Outcome:
        """Train (or find) the model, tune it on dev and evaluate it. Without `keep_checkpoint`, its weights go."""
        data = self.datasets()
        seen = seen_languages(self._load(self.stages["split"], TRAIN))
        scored = self._score(data, keep_checkpoint)
        tuned = self._calibrate(scored, data.dev, seen)
        return self._evaluate(scored, tuned, seen, "test" if data.test else "dev")

    def run(self) -> Outcome:
        """Do everything that the recipe asks for, up to the bundle, and write down where it is."""
        outcome = self.evaluate()
        if self.recipe.model == "crossencoder":
            card = self._card(outcome, self.datasets())
            if self.recipe.export.enabled:
                self._export(card)
        self._write_state(outcome)
        return Outcome(outcome.report, outcome.evaluated_on, outcome.tuned, dict(self.stages))

    def _stage(self, name: str, inputs: dict[str, str], make: Make, facts: dict[str, Any] | None = None) -> Result:
        """Find or make a stage's result. `make` sees of the recipe what the table of stages says, and no more."""
        made = len(self.store.made)
        seen = view(self.recipe, name)
        result = self.store.run(ingredients(name, self.recipe, inputs, facts), lambda work: make(seen, work))
        self.stages[name] = result
        how = f"{result.manifest.seconds:.0f} s" if len(self.store.made) > made else "found"
        log.info("%s: %s (%s)", name, summary(result), how)
        return result

    def _read(self) -> Result:
        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            parts, report = datastages.read_stage(recipe)
            for name, rows in parts.items():
                write_rows(work / f"{name}.parquet", rows, recipe.task)
            return report

        return self._stage("read", {}, make)

    def _clean(self, before: Result) -> Result:
        if not self.recipe.cleaning.enabled:
            return before

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            rows, report = datastages.clean_stage(self._load(before, TRAIN), recipe)
            write_rows(work / TRAIN, rows, recipe.task)
            return report

        return self._stage("clean", {TRAIN: before.manifest.files[TRAIN]}, make)

    def _split(self) -> Result:
        read = self._read()
        cleaned = self._clean(read)
        inputs = {TRAIN: cleaned.manifest.files[TRAIN]}
        inputs |= {f"read {part}": read.manifest.files[part] for part in (TRAIN, DEV, TEST)}

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            raw, dev, test = (self._load(read, part) for part in (TRAIN, DEV, TEST))
            given = Datasets(self._load(cleaned, TRAIN), dev, test)
            found, report = datastages.split_stage(given, raw, recipe.split)
            write_rows(work / TRAIN, found.train, recipe.task)
            write_rows(work / DEV, found.dev, recipe.task)
            write_rows(work / TEST, found.test, recipe.task)
            return report

        return self._stage("split", inputs, make)

    def _translate(self, before: Result) -> Result:
        section = self.recipe.translation
        if not section.enabled:
            return before
        gate = {} if section.gates.similarity is None else {"gate encoder": base_revision(datastages.GATE_ENCODER)}
        return self._rows_stage("translate", before, datastages.translate_stage, gate)

    def _mine(self, before: Result) -> Result:
        if not self.recipe.negatives.enabled or self.recipe.negatives.strategy == "none":
            return before
        return self._rows_stage("mine", before, datastages.mine_stage)

    def _filter(self, before: Result) -> Result:
        if not self.recipe.filtering.enabled:
            return before
        return self._rows_stage("filter", before, datastages.filter_stage)

    def _rows_stage(self, name: str, before: Result, work_of: RowsStage, facts: dict[str, Any] | None = None) -> Result:
        """Run a stage that gives other training rows; dev and test go in as the rows to stay clear of."""
        split = self.stages["split"]
        inputs = {TRAIN: before.manifest.files[TRAIN]} | {part: split.manifest.files[part] for part in (DEV, TEST)}

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            data = Datasets(self._load(before, TRAIN), self._load(split, DEV), self._load(split, TEST))
            rows, report = work_of(data, recipe, self.caches)
            write_rows(work / TRAIN, rows, recipe.task)
            return report

        return self._stage(name, inputs, make, facts)

    def _train(self, data: Datasets) -> Result:
        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            modelstages.train_stage(data, recipe, work)
            return {"rows": len(data.train)}

        return self._stage("train", self._training_inputs(), make)

    def _score(self, data: Datasets, keep_checkpoint: bool) -> Result:
        is_probe = self.recipe.model == "probe"
        inputs = self._training_inputs() | {TEST: self.stages["split"].manifest.files[TEST]}
        if not is_probe:
            inputs["train"] = ingredients("train", self.recipe, self._training_inputs()).key

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            if is_probe:
                found = modelstages.probe_logits(data, recipe, self.caches)
            else:
                checkpoint = self._train(data).file(CHECKPOINT)
                found = modelstages.checkpoint_logits(checkpoint, data.test)
            for name, rows, logits in ((DEV_LOGITS, data.dev, found[0]), (TEST_LOGITS, data.test, found[1])):
                modelstages.write_logits(work / name, rows, logits)
            return {"dev": len(data.dev), "test": len(data.test)}

        scored = self._stage("score", inputs, make)
        if not keep_checkpoint and "train" in self.stages:
            self.store.drop(self.stages["train"])
        return scored

    def _calibrate(self, scored: Result, dev: list[LabeledPair], seen: list[str]) -> Tuned:
        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            logits = modelstages.read_logits(scored.file(DEV_LOGITS))["logit"]
            return tune(dev, logits, recipe.calibration, seen).model_dump(mode="json")

        report = self._stage("calibrate", {"score": scored.manifest.key}, make, {"seen": seen}).manifest.report
        return Tuned.model_validate(report | {"calibration": Calibration(**report["calibration"])})

    def _evaluate(self, scored: Result, tuned: Tuned, seen: list[str], on: str) -> Outcome:
        inputs = {"score": scored.manifest.key, "calibrate": self.stages["calibrate"].manifest.key}

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            columns = modelstages.read_logits(scored.file(f"{on}.logits.parquet"))
            report = modelstages.evaluate_stage(columns, tuned, seen, recipe.seed)
            return {"evaluated_on": on, "metrics": report.model_dump(mode="json")}

        done = self._stage("evaluate", inputs, make, {"seen": seen, "on": on})
        return Outcome(Report.model_validate(done.manifest.report["metrics"]), on, tuned, dict(self.stages))

    def _card(self, outcome: Outcome, data: Datasets) -> Result:
        trained = self._train(data)
        inputs = {name: self.stages[name].manifest.key for name in ("train", "calibrate", "evaluate")}

        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            dev = modelstages.read_logits(self.stages["score"].file(DEV_LOGITS))
            found = modelstages.Finished(recipe.name, outcome.tuned, outcome.report, outcome.evaluated_on, dev)
            modelstages.card_stage(trained.file(CHECKPOINT), found, work)
            return {"threshold": outcome.tuned.threshold}

        return self._stage("card", inputs, make)

    def _export(self, card: Result) -> Result:
        def make(recipe: PipelineRecipe, work: Path) -> dict[str, Any]:
            modelstages.export_stage(card.file(CHECKPOINT), recipe.export.precision, work)
            return {"precision": recipe.export.precision}

        return self._stage("export", {"card": card.manifest.key}, make)

    def _training_inputs(self) -> dict[str, str]:
        last = next(self.stages[name] for name in reversed(DATA_STAGES) if name in self.stages)
        return {TRAIN: last.manifest.files[TRAIN], DEV: self.stages["split"].manifest.files[DEV]}

    def _load(self, result: Result, name: str) -> list[LabeledPair]:
        path = result.file(name)
        if path not in self._rows:
            self._rows[path] = read_rows(path, self.recipe.task)
        return self._rows[path]

    def _write_state(self, outcome: Outcome) -> None:
        state = {
            "recipe": self.recipe.model_dump(mode="json"),
            "stages": {name: result.folder.name for name, result in self.stages.items()},
            "evaluated_on": outcome.evaluated_on,
        }
        write_text(self.store.folder / STATE_FILE, json.dumps(state, indent=2) + "\n")
