"""The stages from rows to a model and its figures, and that of rows which a model labels.

Each writes its outputs and returns its report.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from relevance.errors import InputError, ParityError
from relevance.evaluation.metrics import Scored, evaluate
from relevance.model.card import CARD_FILE, ModelCard
from relevance.storage.files import whole_file
from relevance.tasks import LabeledPair
from training.data.groups import linked_groups
from training.data.rankings import lists_of
from training.data.stored.rows import chained
from training.fitting.evaluation.calibration import Dev, Tuned, platt, tune, with_findings, with_tuning
from training.fitting.evaluation.thresholds import seen_languages
from training.pipeline.reports import write_reports
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

log = logging.getLogger(__name__)

TEACHER = "teacher"
METRICS_ON = {
    "test": "test: rows on which nothing was chosen",
    "dev": "dev: rows on which checkpoint, calibration and thresholds were chosen too, so the metrics flatter",
}


def transfer(run: StageRun) -> Report:
    """Add rows in other languages that a teacher labels."""
    from training.fitting.evaluation.scorer import KeptScorer, model_scorer
    from training.transfer.stage import Sources
    from training.transfer.stage import transfer as add_rows
    from training.translation.backends.memory_files import units_of

    section, task = run.recipe.transfer, run.recipe.task
    units = units_of(section.memories, skip_bad=section.skip_bad_units)
    folder = _own_teacher(run) if section.teacher is None else section.teacher
    teacher = KeptScorer(model_scorer(folder, task, "teacher"), run.caches.folder / "logits")
    sources = Sources(units, held_out=chained(run.stored(DEV), run.stored(TEST)))
    encoder = run.caches.encoder(run.recipe.base_model)
    rows, report = add_rows(run.stored(TRAIN), task, sources, section, encoder, teacher)
    run.write(TRAIN, rows)
    shutil.rmtree(run.work / TEACHER, ignore_errors=True)
    return report.model_dump(mode="json")


def _own_teacher(run: StageRun) -> Path:
    """Train a model on the rows so far and calibrate it on dev; return its folder. Goes on where a killed run was."""
    from training.fitting import checkpoint

    out, dev = run.work / TEACHER, run.rows(DEV)
    if not out.is_dir():
        checkpoint.train(checkpoint.Job(run.recipe.fine_tuning(), run.stored(TRAIN), dev, out, tuned=False))
    calibration = platt([row.label for row in dev], checkpoint.dev_logits(out))
    ModelCard.load(out).model_copy(update={"calibration": calibration}).save(out)
    return out


def train(run: StageRun) -> Report:
    """Fine-tune and score dev; goes on where an interrupted run was."""
    from training.fitting import checkpoint

    out, rows, dev = run.work / CHECKPOINT, run.stored(TRAIN), run.rows(DEV)
    if not out.is_dir():  # else the run was killed between training and the end of the stage
        checkpoint.train(checkpoint.Job(run.recipe.fine_tuning(), rows, dev, out, tuned=False))
    _write_logits(run.work / DEV_LOGITS, dev, checkpoint.dev_logits(out))
    return {"rows": len(rows)}


def score(run: StageRun) -> Report:
    """Score test with the checkpoint."""
    from training.fitting.evaluation.report import score_logits

    test = run.rows(TEST)
    logits = score_logits(run.path(CHECKPOINT), test)[1] if test else ()
    _write_logits(run.work / TEST_LOGITS, test, logits)
    return {"test": len(test)}


def probe(run: StageRun) -> Report:
    """Fit a probe over frozen embeddings and score dev and test. The recipe's seed changes nothing."""
    from training.models.probe import Probe

    fitted = Probe(run.caches.encoder(run.recipe.base_model), run.recipe.task).fit(run.stored(TRAIN))
    dev, test = run.rows(DEV), run.rows(TEST)
    _write_logits(run.work / DEV_LOGITS, dev, fitted.logits(dev))
    _write_logits(run.work / TEST_LOGITS, test, fitted.logits(test))
    return {"dev": len(dev), "test": len(test)}


def calibrate(run: StageRun) -> Report:
    """Tune calibration and thresholds on dev."""
    logits = read_logits(run.path(DEV_LOGITS))["logit"]
    return tune(run.rows(DEV), logits, run.recipe.calibration, _seen(run)).model_dump(mode="json")


def evaluate_stage(run: StageRun) -> Report:
    """Measure the tuned model on test, or on dev where there are no test rows."""
    test = read_logits(run.path(TEST_LOGITS))
    on, columns = ("test", test) if test["id"] else ("dev", read_logits(run.path(DEV_LOGITS)))
    tuned = Tuned.model_validate(run.report("calibrate"))
    cuts = [tuned.threshold_for(language) for language in columns["language"]]
    scores = tuned.scores(columns["logit"], columns["language"]).tolist()
    lists = lists_of(run.rows(TEST if on == "test" else DEV))
    scored = Scored(columns["label"], scores, columns["group"], columns["language"], cuts, lists)
    metrics = evaluate(scored, tuned.threshold, _seen(run), seed=run.recipe.seed)
    return {"evaluated_on": on, "metrics": metrics.model_dump(mode="json")}


def card(run: StageRun) -> Report:
    """Make a checkpoint of the trained weights, as hard links, under a card that holds what was tuned and measured.

    In it stand the reports, which export takes along.
    """
    from training.fitting.checkpoint import dev_cosines

    trained, out = run.path(CHECKPOINT), run.work / CHECKPOINT
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(trained, out, copy_function=_link)
    (out / CARD_FILE).unlink()  # else the card of the trained checkpoint would change with it
    before, measured, name = ModelCard.load(trained), run.report("evaluate"), run.recipe.name
    named = {
        "name": name,
        "recipe": before.recipe | {"name": name},
        "metrics_on": METRICS_ON[measured["evaluated_on"]],
        "metrics": measured["metrics"],
    }
    tuned, dev = Tuned.model_validate(run.report("calibrate")), read_logits(run.path(DEV_LOGITS))
    rows = Dev(dev["label"], dev["language"], dev["group"], dev["logit"], dev_cosines(trained))
    after = with_tuning(ModelCard.model_validate(dict(before) | named), tuned, rows)
    with_findings(after, rows).save(out)
    on = measured["evaluated_on"]
    write_reports(run, out, on, read_logits(run.path(TEST_LOGITS))["logit"] if on == "test" else dev["logit"])
    return {"threshold": tuned.threshold}


def export(run: StageRun) -> Report:
    """Run `relevance export` in a process of its own: training and export meet through files only."""
    checkpoint, made = run.path(CHECKPOINT), run.recipe.export
    command = [sys.executable, "-m", "relevance", "export", str(checkpoint), str(run.work / BUNDLE)]
    command += ["--kind", made.kind, "--precision", made.precision, "--overwrite"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ParityError(f"export of {checkpoint}: ended with status {done.returncode}; its message stands above")
    log.info("%s", done.stdout.strip())
    return {"kind": made.kind, "precision": made.precision}


def read_logits(path: Path) -> dict[str, list]:
    """Return the columns of scored rows. InputError where the file is damaged."""
    try:
        columns: dict[str, list] = pq.read_table(path).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove its folder") from None
    return columns


def _write_logits(path: Path, rows: Sequence[LabeledPair], logits: ArrayLike) -> None:
    """Write scored rows: id, language, label, group (a query with its translations) and logit."""
    table = pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.string()),
            "language": pa.array([row.pair.language for row in rows], pa.string()),
            "label": pa.array([row.label for row in rows], pa.int8()),
            "group": pa.array(linked_groups(rows), pa.string()),
            "logit": pa.array(np.asarray(logits, dtype=np.float64)),
        }
    )
    with whole_file(path) as beside:
        pq.write_table(table, beside)


def _seen(run: StageRun) -> list[str]:
    """Return the languages with original training rows."""
    return seen_languages(run.stored(f"split {TRAIN}"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
