"""The stages from rows to a model and its figures, as the pipeline calls them: train, score, evaluate, card, export."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from relevance.card import CARD_FILE, ModelCard
from relevance.errors import InputError, ParityError
from relevance.files import whole_file
from relevance.metrics import Report, Scored, evaluate
from relevance.tasks import LabeledPair
from training.data.groups import linked_groups
from training.fitting.calibration import Tuned, with_findings, with_tuning
from training.pipeline.datastages import Caches, Datasets
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.stages import BUNDLE, CHECKPOINT

log = logging.getLogger(__name__)

METRICS_ON = {
    "test": "test: rows on which nothing was chosen",
    "dev": "dev: rows on which checkpoint, calibration and thresholds were chosen too, so the metrics flatter",
}

Floats = NDArray[np.float64]


def train_stage(data: Datasets, recipe: PipelineRecipe, work: Path) -> ModelCard:
    """Fine-tune into `work`/checkpoint; goes on where an interrupted run was."""
    from training.fitting.checkpoint import Job, train

    out = work / CHECKPOINT
    if out.is_dir():  # killed between training and the end of the stage
        return ModelCard.load(out)
    return train(Job(recipe.fine_tuning(), data.train, data.dev, out, tuned=False))


def checkpoint_logits(checkpoint: Path, test: Sequence[LabeledPair]) -> tuple[Floats, Floats]:
    """Return the logits of dev, which training has scored already, and of test."""
    from training.fitting.checkpoint import dev_logits
    from training.fitting.evaluation import score_logits

    found = score_logits(checkpoint, test)[1] if test else np.zeros(0)
    return np.asarray(dev_logits(checkpoint), dtype=np.float64), np.asarray(found, dtype=np.float64)


def probe_logits(data: Datasets, recipe: PipelineRecipe, caches: Caches) -> tuple[Floats, Floats]:
    """Return the logits of dev and test by a probe trained on the training rows; the recipe's seed changes nothing."""
    from training.models.probe import Probe

    probe = Probe(caches.encoder(recipe.base_model), recipe.task).fit(data.train)
    return probe.logits(data.dev), probe.logits(data.test)


def write_logits(path: Path, rows: Sequence[LabeledPair], logits: Floats) -> None:
    """Write scored rows: id, language, label, group (a query with its translations) and logit."""
    table = pa.table(
        {
            "id": [row.id for row in rows],
            "language": [row.pair.language for row in rows],
            "label": pa.array([row.label for row in rows], pa.int8()),
            "group": linked_groups(rows),
            "logit": pa.array(np.asarray(logits, dtype=np.float64)),
        }
    )
    with whole_file(path) as beside:
        pq.write_table(table, beside)


def read_logits(path: Path) -> dict[str, list]:
    """Return the columns that `write_logits` wrote. InputError where the file is damaged."""
    try:
        columns: dict[str, list] = pq.read_table(path).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove its folder") from None
    return columns


def evaluate_stage(columns: dict[str, list], tuned: Tuned, seen: Sequence[str], seed: int) -> Report:
    """Return the metrics of scored rows; `seen` are the languages with original training rows."""
    cuts = [tuned.threshold_for(language) for language in columns["language"]]
    scores = tuned.scores(columns["logit"]).tolist()
    scored = Scored(columns["label"], scores, columns["group"], columns["language"], cuts)
    return evaluate(scored, tuned.threshold, seen, seed=seed)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a card says beside what training knew: name, what was tuned, metrics, what they are of, dev's columns."""

    name: str
    tuned: Tuned
    metrics: Report
    evaluated_on: str
    dev: dict[str, list]


def card_stage(checkpoint: Path, done: Finished, work: Path) -> None:
    """Make `work`/checkpoint: the trained weights, as hard links, under a card that holds what was tuned."""
    out = work / CHECKPOINT
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(checkpoint, out, copy_function=_link)
    (out / CARD_FILE).unlink()  # else the card of the trained checkpoint would change with it
    trained = ModelCard.load(checkpoint)
    found = {
        "name": done.name,
        "recipe": trained.recipe | {"name": done.name},
        "metrics_on": METRICS_ON[done.evaluated_on],
        "metrics": done.metrics,
    }
    dev = done.dev
    card = with_tuning(trained.model_copy(update=found), done.tuned, dev["logit"], dev["language"])
    card = with_findings(card, dev["logit"], dev["label"], dev["language"])
    card.save(out)


def export_stage(checkpoint: Path, precision: str, work: Path) -> None:
    """Run `relevance export` in a process of its own: training and export meet through files only."""
    command = [sys.executable, "-m", "relevance", "export", str(checkpoint), str(work / BUNDLE)]
    done = subprocess.run([*command, "--precision", precision, "--overwrite"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ParityError(f"export of {checkpoint}: ended with status {done.returncode}; its message stands above")
    log.info("%s", done.stdout.strip())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
