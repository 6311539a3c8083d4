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
from relevance.files import whole_file
from relevance.formatting import FORMAT_VERSION
from relevance.metrics import Report
from relevance.tasks import LabeledPair
from training.dataset import read_pairs
from training.pipeline import datastages, modelstages
from training.pipeline.datastages import Caches, Datasets
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.store import Result, Store, content_of
from training.pipeline.tables import read_rows, write_rows
from training.pipeline.tuning import Tuned, tune
from training.probe import VERSION as PROBE_VERSION

log = logging.getLogger(__name__)

# Raised when a stage gives other results for the same options and rows: what was kept is then made anew.
VERSIONS = {
    "read": 2,
    "clean": 2,
    "split": 2,
    "translate": 2,
    "mine": 2,
    "filter": 2,
    "train": 1,
    "score": 1,
    "calibrate": 1,
    "evaluate": 1,
    "card": 2,
    "export": 1,
}
STATE_FILE = "run.json"
TRAIN, DEV, TEST = "train.parquet", "dev.parquet", "test.parquet"
DATA_STAGES = ("read", "clean", "split", "translate", "mine", "filter")


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
        seen = sorted({row.pair.language for row in self._load(self.stages["split"], TRAIN)})
        scored = self._score(data, keep_checkpoint)
        tuned = self._calibrate(scored, data.dev)
        on = "test" if data.test else "dev"
        inputs = {"score": scored.manifest.key, "calibrate": self.stages["calibrate"].manifest.key}

        def make(work: Path) -> dict[str, Any]:
            columns = modelstages.read_logits(scored.file(f"{on}.logits.parquet"))
            report = modelstages.evaluate_stage(columns, tuned, seen, self.recipe.seed)
            return {"evaluated_on": on, "metrics": report.model_dump(mode="json")}

        done = self._stage("evaluate", {"seen": seen, "on": on, "seed": self.recipe.seed}, inputs, make)
        report = Report.model_validate(done.manifest.report["metrics"])
        return Outcome(report, on, tuned, dict(self.stages))

    def run(self) -> Outcome:
        """Do everything that the recipe asks for, up to the bundle, and write down where it is."""
        outcome = self.evaluate()
        if self.recipe.model == "crossencoder":
            card = self._card(outcome, self.datasets())
            if self.recipe.export.enabled:
                self._export(card)
        self._write_state(outcome)
        return Outcome(outcome.report, outcome.evaluated_on, outcome.tuned, dict(self.stages))

    def _stage(
        self, name: str, options: dict[str, Any], inputs: dict[str, str], make: Callable[[Path], dict[str, Any]]
    ) -> Result:
        made = len(self.store.made)
        result = self.store.run(name, VERSIONS[name], options, inputs, make)
        self.stages[name] = result
        how = f"{result.manifest.seconds:.0f} s" if len(self.store.made) > made else "found"
        log.info("%s: %s (%s)", name, summary(result), how)
        return result

    def _read(self) -> Result:
        data = self.recipe.data
        files = {"train": data.train, "dev": data.dev, "test": data.test}
        inputs = {
            f"{part} {n} {file}": content_of(file)
            for part, paths in files.items()
            for n, file in enumerate(paths, start=1)
        }
        options = data.model_dump(mode="json", include={"columns", "languages", "max_rows"})
        options |= {"task": self.recipe.task, "seed": self.recipe.split.seed}

        def make(work: Path) -> dict[str, Any]:
            counts, renamed = {}, {}
            for part, paths in files.items():
                read = [read_pairs(path, self.recipe.task, columns=data.columns).rows for path in paths]
                rows, renamed[part] = datastages.with_own_ids(read)
                if part == "train":
                    rows = datastages.chosen_rows(rows, data, self.recipe.split.seed)
                self._save(work / f"{part}.parquet", rows)
                counts[part] = len(rows)
            return {"rows": counts, "renamed_ids": renamed}

        return self._stage("read", options, inputs, make)

    def _clean(self, before: Result) -> Result:
        section = self.recipe.cleaning
        if not section.enabled:
            return before
        options = section.options().model_dump(mode="json") | {"task": self.recipe.task}
        inputs = {"train": before.manifest.files[TRAIN]}
        if section.promotions_file is not None:
            options["promotions_file"] = content_of(section.promotions_file)

        def make(work: Path) -> dict[str, Any]:
            rows, report = datastages.clean_stage(self._load(before, TRAIN), self.recipe)
            self._save(work / TRAIN, rows)
            return report

        return self._stage("clean", options, inputs, make)

    def _split(self) -> Result:
        read = self._read()
        cleaned = self._clean(read)
        inputs = {"train": cleaned.manifest.files[TRAIN]}
        inputs |= {f"read {part}": read.manifest.files[part] for part in (TRAIN, DEV, TEST)}

        def make(work: Path) -> dict[str, Any]:
            raw, dev, test = (self._load(read, part) for part in (TRAIN, DEV, TEST))
            given = Datasets(self._load(cleaned, TRAIN), dev, test)
            found, report = datastages.split_stage(given, raw, self.recipe.split)
            self._save(work / TRAIN, found.train)
            self._save(work / DEV, found.dev)
            self._save(work / TEST, found.test)
            return report

        options = self.recipe.split.model_dump(mode="json") | {"task": self.recipe.task}
        return self._stage("split", options, inputs, make)

    def _translate(self, before: Result) -> Result:
        section = self.recipe.translation
        if not section.enabled:
            return before
        backends = [_backend_identity(name) for name in section.backends]
        options = section.model_dump(mode="json", exclude={"enabled", "backends"}) | {"backends": backends}
        return self._rows_stage("translate", options, before, datastages.translate_stage)

    def _mine(self, before: Result) -> Result:
        section = self.recipe.negatives
        if not section.enabled or section.strategy == "none":
            return before
        options = section.options().model_dump(mode="json") | {"base_model": self._revision(), "task": self.recipe.task}
        options |= {} if section.vet is None else {"vet": content_of(section.vet)}
        return self._rows_stage("mine", options, before, datastages.mine_stage)

    def _filter(self, before: Result) -> Result:
        section = self.recipe.filtering
        if not section.enabled:
            return before
        options = section.model_dump(mode="json", exclude={"enabled"}) | self._model_options()
        options |= {"probe_version": PROBE_VERSION}
        return self._rows_stage("filter", options, before, datastages.filter_stage)

    def _rows_stage(
        self,
        name: str,
        options: dict[str, Any],
        before: Result,
        work_of: Callable[[Datasets, PipelineRecipe, Caches], tuple[list[LabeledPair], dict[str, Any]]],
    ) -> Result:
        """Run a stage that gives other training rows; dev and test go in as the rows to stay clear of."""
        split = self.stages["split"]
        inputs = {"train": before.manifest.files[TRAIN]}
        inputs |= {part: split.manifest.files[part] for part in (DEV, TEST)}

        def make(work: Path) -> dict[str, Any]:
            data = Datasets(self._load(before, TRAIN), self._load(split, DEV), self._load(split, TEST))
            rows, report = work_of(data, self.recipe, self.caches)
            self._save(work / TRAIN, rows)
            return report

        return self._stage(name, options, inputs, make)

    def _train(self, data: Datasets) -> Result:
        def make(work: Path) -> dict[str, Any]:
            card = modelstages.train_stage(data, self.recipe, work)
            return {"threshold": card.threshold, "rows": len(data.train)}

        return self._stage("train", self._model_options(), self._model_inputs(), make)

    def _score(self, data: Datasets, keep_checkpoint: bool) -> Result:
        is_probe = self.recipe.model == "probe"
        options = self._model_options() | {"model": self.recipe.model}
        options |= {"probe_version": PROBE_VERSION} if is_probe else {}
        inputs = self._model_inputs() | {TEST: self.stages["split"].manifest.files[TEST]}

        def make(work: Path) -> dict[str, Any]:
            if is_probe:
                found = modelstages.probe_logits(data, self.recipe, self.caches)
            else:
                trained = self._train(data)
                checkpoint = trained.file(modelstages.CHECKPOINT)
                found = tuple(modelstages.checkpoint_logits(checkpoint, rows) for rows in (data.dev, data.test))
            for part, rows, logits in (("dev", data.dev, found[0]), ("test", data.test, found[1])):
                modelstages.write_logits(work / f"{part}.logits.parquet", rows, logits)
            return {"dev": len(data.dev), "test": len(data.test)}

        scored = self._stage("score", options, inputs, make)
        if not keep_checkpoint and "train" in self.stages:
            self.store.drop(self.stages["train"])
        return scored

    def _calibrate(self, scored: Result, dev: list[LabeledPair]) -> Tuned:
        def make(work: Path) -> dict[str, Any]:
            logits = modelstages.read_logits(scored.file("dev.logits.parquet"))["logit"]
            return tune(dev, logits, self.recipe.calibration).model_dump(mode="json")

        options = self.recipe.calibration.model_dump(mode="json")
        done = self._stage("calibrate", options, {"score": scored.manifest.key}, make)
        report = done.manifest.report
        return Tuned.model_validate(report | {"calibration": Calibration(**report["calibration"])})

    def _card(self, outcome: Outcome, data: Datasets) -> Result:
        trained = self._train(data)
        inputs = {name: self.stages[name].manifest.key for name in ("train", "calibrate", "evaluate")}

        def make(work: Path) -> dict[str, Any]:
            dev = modelstages.read_logits(self.stages["score"].file("dev.logits.parquet"))
            checkpoint = trained.file(modelstages.CHECKPOINT)
            found = modelstages.Finished(self.recipe.name, outcome.tuned, outcome.report, dev["logit"], dev["language"])
            modelstages.card_stage(checkpoint, found, work)
            return {"threshold": outcome.tuned.threshold}

        return self._stage("card", {"name": self.recipe.name}, inputs, make)

    def _export(self, card: Result) -> Result:
        precision = self.recipe.export.precision

        def make(work: Path) -> dict[str, Any]:
            modelstages.export_stage(card.file(modelstages.CHECKPOINT), precision, work)
            return {"precision": precision}

        return self._stage("export", {"precision": precision}, {"card": card.manifest.key}, make)

    def _model_options(self) -> dict[str, Any]:
        recipe = self.recipe.fine_tuning().model_dump(mode="json", exclude={"name"})
        return recipe | {"base_model": self._revision(), "format_version": FORMAT_VERSION}

    def _model_inputs(self) -> dict[str, str]:
        last = next(self.stages[name] for name in reversed(DATA_STAGES) if name in self.stages)
        return {"train": last.manifest.files[TRAIN], DEV: self.stages["split"].manifest.files[DEV]}

    def _revision(self) -> str:
        from training.encoders import resolve_base_model

        return f"{self.recipe.base_model} {resolve_base_model(self.recipe.base_model).revision}"

    def _save(self, path: Path, rows: list[LabeledPair]) -> None:
        write_rows(path, rows, self.recipe.task)

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
        with whole_file(self.store.folder / STATE_FILE) as path:
            path.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def summary(result: Result) -> str:
    """Return the result of a stage in a few words."""
    report = result.manifest.report
    if result.manifest.stage == "read":
        return ", ".join(f"{part} {count:,} rows" for part, count in report["rows"].items() if count)
    if result.manifest.stage == "split":
        return ", ".join(f"{part} {report[part]['rows']:,} rows" for part in ("train", "dev", "test") if part in report)
    if "rows_in" in report:
        return f"{report['rows_in']:,} rows in, {report['rows_out']:,} out"
    if result.manifest.stage == "evaluate":
        every = report["metrics"]["all"]
        area = every["auc"]["value"]  # absent where there is one class only
        return (
            f"AUC {'-' if area is None else f'{area:.3f}'}, F1 {every['f1']['value']:.3f} on {report['evaluated_on']}"
        )
    return ", ".join(f"{name} {_short(value)}" for name, value in report.items() if not isinstance(value, dict))


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _backend_identity(name: str) -> str:
    """Return what a backend's translations depend on: the content of memory files and model folders."""
    kind, _, rest = name.partition(":")
    if kind == "memory":
        return f"memory:{','.join(content_of(Path(part)) for part in rest.split(','))}"
    return f"ctranslate2:{content_of(Path(rest))}" if kind == "ctranslate2" else name
