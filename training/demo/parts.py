"""One task's part of the demo: its files, what of them is up to date, and the making of its two models.

FOLDER/TASK holds `checkpoint` and `bundle` of the fine-tuned model, and `served`, a link to the bundle that the service
watches. Until the fine-tuned bundle is there the link leads to `untuned/bundle`: the encoder as it is, under a head
that starts from its cosines.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relevance.model.bundle import MANIFEST_FILE
from relevance.model.card import CARD_FILE
from relevance.model.reports import REPORTS_FOLDER
from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Task
from relevance.text.formatting import FORMAT_VERSION
from training.fitting.recipe import Recipe

TASKS = (Task.QC, Task.QI)
# How far the fine-tuning of a task gives way (`nice`) to what people wait for sooner. QC has the most to train, so QI
# gives way to it, too, and both end at about the same time.
NICENESS = {Task.QC: 1, Task.QI: 6}
UNTUNED_TRAIN_ROWS = 400  # the start of a head needs few rows,
UNTUNED_DEV_ROWS = 260  # and people wait for it
REPORT = "data.html"
RECIPES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Stage:
    """A model of a task: its recipe, its checkpoint and its bundle."""

    recipe: Recipe
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The folder that training writes."""
        return self.folder / "checkpoint"

    @property
    def bundle(self) -> Path:
        """The folder that export writes."""
        return self.folder / "bundle"

    @property
    def is_trained(self) -> bool:
        """Whether the checkpoint is there and of this recipe."""
        return self._is_current(self.checkpoint / CARD_FILE)

    @property
    def is_exported(self) -> bool:
        """Whether the bundle is there and of this recipe."""
        return self._is_current(self.bundle / MANIFEST_FILE)

    def train(self, train: list[LabeledPair], dev: list[LabeledPair]) -> None:
        """Make the checkpoint, unless it is up to date; goes on where an interrupted run was."""
        from training.fitting.checkpoint import Job
        from training.fitting.checkpoint import train as run

        if not self.is_trained:
            run(Job(self.recipe, train, dev, self.checkpoint), overwrite=True)

    def add_report(self, rows: Mapping[str, list[LabeledPair]]) -> None:
        """Put the data report of the rows of each split into the checkpoint, which takes it into the bundle.

        A report on evaluation would score dev pairs again in several forms, while people wait.
        """
        from training.reports import data_page
        from training.reports.measures import measure

        page = data_page.render(measure(rows, self.recipe.task, tags=False))
        write_text(self.checkpoint / REPORTS_FOLDER / REPORT, page)

    def export(self) -> None:
        """Make the bundle by the command `export`, in this process: it has imported already what takes so long."""
        from relevance.cli import build_app

        arguments = ["export", str(self.checkpoint), str(self.bundle), "--overwrite"]
        with contextlib.redirect_stdout(sys.stderr):  # into the log
            build_app()(arguments, standalone_mode=False)

    def dev_auc(self) -> float | None:
        """Return the AUC on the dev rows that the bundle's manifest states; None without one."""
        metrics = json.loads((self.bundle / MANIFEST_FILE).read_bytes())["metrics"]
        return metrics and metrics["all"]["auc"]["value"]

    def _is_current(self, file: Path) -> bool:
        """Return whether a card or manifest is of this format and recipe; the pairs' format is fitted to the rows."""
        try:
            found = json.loads(file.read_bytes())
            made = found["recipe"] | {"format": None}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        wanted = self.recipe.model_dump(mode="json") | {"format": None}
        return bool(found.get("format_version") == FORMAT_VERSION and made == wanted)


@dataclass(frozen=True, slots=True)
class Part:
    """A task of the demo."""

    task: Task
    folder: Path
    tuned: Stage
    untuned: Stage

    @classmethod
    def of(cls, task: Task, demo: Path, recipes: Path) -> "Part":
        """Return the part of a task in the demo's folder. Raises ConfigError for a bad recipe `TASK.toml`."""
        file, folder = recipes / f"{task.value}.toml", demo / task.value
        recipe = Recipe.load(file)
        untuned = Recipe.load(file, [f'name="{recipe.name}-untuned"', "training.epochs=0"])
        return cls(task, folder, Stage(recipe, folder), Stage(untuned, folder / "untuned"))

    @property
    def name(self) -> str:
        """The task as people read it."""
        return self.task.value.upper()

    @property
    def log(self) -> Path:
        """What the process that trains and exports it says."""
        return self.folder / "log.txt"

    @property
    def served(self) -> Path:
        """The link that the service watches."""
        return self.folder / "served"

    def rows(self, demo: Path, split: str) -> list[LabeledPair]:
        """Return the sample's rows of a split."""
        from training.data.dataset import read_pairs

        return read_pairs(demo / "sample" / f"{split}_{self.name}.txt", self.task).rows

    def stages(self, *, tuned_only: bool) -> Iterator[Stage]:
        """Yield what is still to be made of the untuned model, unless that is not wanted, and of the fine-tuned one."""
        wanted = (self.tuned,) if tuned_only else (self.untuned, self.tuned)
        yield from (stage for stage in wanted if not stage.is_exported)

    def train(self, demo: Path, stage: Stage) -> None:
        """Make the checkpoint of a stage: from all rows and with their report, and from few of them the untuned one."""
        from training.data.splits import draw

        train, dev = self.rows(demo, "train"), self.rows(demo, "dev")
        if stage is self.untuned:
            train, dev = draw(train, UNTUNED_TRAIN_ROWS, 0), draw(dev, UNTUNED_DEV_ROWS, 0)
        stage.train(train, dev)
        if stage is self.tuned:
            stage.add_report({"train": train, "dev": dev})

    def serve(self, stage: Stage) -> None:
        """Point the link at a bundle, in one step."""
        beside = self.folder / ".served"
        beside.unlink(missing_ok=True)
        beside.symlink_to(os.path.relpath(stage.bundle, self.folder))
        beside.replace(self.served)

    def drop_untuned_checkpoint(self) -> None:
        """Remove the untuned checkpoint, which nothing needs once it is exported: 400 MB."""
        shutil.rmtree(self.untuned.checkpoint, ignore_errors=True)

    def drop_untuned(self) -> None:
        """Remove the untuned model, which nothing needs once the fine-tuned one answers."""
        shutil.rmtree(self.untuned.folder, ignore_errors=True)
