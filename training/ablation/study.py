"""Runs the arms of an ablation over one store and compares their metrics."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from relevance.errors import ConfigError, InputError
from relevance.evaluation.intervals import Interval
from relevance.tasks import LabeledPair
from training.ablation.arms import Arm, with_seed
from training.ablation.compare import Draws, JudgedRows, Measured, Scores, difference, draw, measured, recovered
from training.data.stored.rows import strata_of
from training.pipeline.model_stages import read_logits
from training.pipeline.run import Outcome, Pipeline
from training.pipeline.stage_run import TRAIN
from training.pipeline.store import Store
from training.pipeline.tables import open_rows

log = logging.getLogger(__name__)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmResult(_Frozen):
    """One arm: its training rows by origin (means over the seeds), and its metrics by slice."""

    name: str
    rows: dict[str, float]
    metrics: dict[str, Measured]


class Comparison(_Frozen):
    """An arm against another: differences of AUC and F1 by slice."""

    arm: str
    against: str
    auc: dict[str, Interval]
    f1: dict[str, Interval]


class Recovery(_Frozen):
    """The share of the AUC lost from `whole` to `damaged` that an arm recovers, by slice."""

    arm: str
    damaged: str
    whole: str
    auc: dict[str, Interval]


class Study(_Frozen):
    """All arms on the same test rows. `evaluated_on` says which rows these are."""

    task: str
    model: str
    seeds: int
    evaluated_on: str
    test_rows: int
    test_groups: int
    always_yes_f1: dict[str, float]
    arms: list[ArmResult]
    comparisons: list[Comparison]
    recoveries: list[Recovery] = []


@dataclass(frozen=True, slots=True)
class _Ran:
    """What the runs of one arm came to, one run for each seed."""

    judged: JudgedRows
    evaluated_on: str
    scores: Scores
    rows: dict[str, float]


def run_study(arms: Sequence[Arm], store: Store, seeds: int, recoveries: Sequence[tuple[str, str, str]] = ()) -> Study:
    """Run every arm `seeds` times, each time with the next seeds, and compare them.

    Arms share the stages that are the same for them. `recoveries` are (arm, damaged, whole). A study that was killed
    goes on when it is run again. Weights of models are removed once they have scored. Raises InputError for no arms,
    ConfigError where arms are judged on different rows; and, before the first run, what `Pipeline` raises for any arm.
    """
    if not arms:
        raise InputError("ablation: no arms")
    runs = {arm.name: [Pipeline(with_seed(arm.recipe, seed), store) for seed in range(seeds)] for arm in arms}
    ran: dict[str, _Ran] = {}
    for arm in arms:
        ran[arm.name] = _run_arm(arm.name, runs[arm.name])
        judged, first = ran[arm.name].judged, ran[arms[0].name].judged
        if (judged.labels, judged.groups) != (first.labels, first.groups):
            raise ConfigError(f"arm {arm.name!r} is judged on other rows than {arms[0].name!r}; expected the same")
    rows, on = ran[arms[0].name].judged, ran[arms[0].name].evaluated_on
    slices, labels = rows.slices(), np.asarray(rows.labels)
    draws = {name: {part: draw(rows, of.scores, mask) for part, mask in slices.items()} for name, of in ran.items()}
    return Study(
        task=arms[0].recipe.task,
        model=arms[0].recipe.model,
        seeds=seeds,
        evaluated_on=on,
        test_rows=len(labels),
        test_groups=len(set(rows.groups)),
        always_yes_f1={part: _always_yes(labels[mask]) for part, mask in slices.items()},
        arms=[_arm_result(name, of.rows, draws[name]) for name, of in ran.items()],
        comparisons=[_comparison(arm.name, other, draws) for arm in arms for other in arm.against],
        recoveries=[_recovery(*names, draws) for names in recoveries],
    )


def _run_arm(name: str, runs: Sequence[Pipeline]) -> _Ran:
    outcomes: list[Outcome] = []
    origins: Counter[str] = Counter()
    for number, pipeline in enumerate(runs, start=1):
        log.info("== %s, seed %d of %d", name, number, len(runs))
        outcomes.append(pipeline.evaluate(keep_checkpoint=False))
        origins.update(_origins(pipeline.datasets().train))
    columns = [read_logits(outcome.logits) for outcome in outcomes]
    scores = [
        outcome.tuned.scores(each["logit"], each["language"]) for outcome, each in zip(outcomes, columns, strict=True)
    ]
    cuts = [
        [outcome.tuned.threshold_for(language) for language in each["language"]]
        for outcome, each in zip(outcomes, columns, strict=True)
    ]
    split = open_rows(outcomes[0].stages["split"].file(TRAIN), runs[0].recipe.task)
    seen = sorted({language for language, _ in strata_of(split)})
    judged = JudgedRows(columns[0]["label"], columns[0]["group"], columns[0]["language"], seen)
    rows = {name: round(count / len(runs), 1) for name, count in origins.items()}
    return _Ran(judged, outcomes[0].evaluated_on, Scores(np.stack(scores), np.asarray(cuts)), rows)


def _origins(rows: Sequence[LabeledPair]) -> Counter[str]:
    """Return the numbers of training rows: all, positive ones, and by origin."""
    counts = Counter(all=len(rows), positive=sum(row.label for row in rows))
    counts.update(str(row.extra.get("source", "original")) for row in rows)
    return counts


def _arm_result(name: str, rows: dict[str, float], draws: dict[str, Draws]) -> ArmResult:
    return ArmResult(name=name, rows=rows, metrics={part: measured(found) for part, found in draws.items()})


def _comparison(arm: str, other: str, draws: dict[str, dict[str, Draws]]) -> Comparison:
    auc, f1 = (
        {part: difference(of, draws[other][part], metric) for part, of in draws[arm].items()}
        for metric in ("auc", "f1")
    )
    return Comparison(arm=arm, against=other, auc=auc, f1=f1)


def _recovery(arm: str, damaged: str, whole: str, draws: dict[str, dict[str, Draws]]) -> Recovery:
    auc = {part: recovered(of, draws[damaged][part], draws[whole][part]) for part, of in draws[arm].items()}
    return Recovery(arm=arm, damaged=damaged, whole=whole, auc=auc)


def _always_yes(labels: np.ndarray) -> float:
    return float(2 * labels.sum() / (len(labels) + labels.sum()))
