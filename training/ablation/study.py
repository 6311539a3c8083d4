"""Runs the arms of an ablation over one store and compares their metrics."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from relevance.errors import ConfigError, InputError
from relevance.metrics import Interval
from training.ablation.arms import Arm, with_seed
from training.ablation.compare import Draws, JudgedRows, Measured, Scores, difference, draw, measured, recovered
from training.pipeline.model_stages import read_logits
from training.pipeline.run import Outcome, Pipeline
from training.pipeline.stage_run import TRAIN
from training.pipeline.store import Store
from training.pipeline.tables import read_rows

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
    scores: Scores
    rows: dict[str, float]


def run_study(arms: Sequence[Arm], store: Store, seeds: int, recoveries: Sequence[tuple[str, str, str]] = ()) -> Study:
    """Run every arm `seeds` times, each time with the next seeds, and compare them.

    Arms share the stages that are the same for them.
    `recoveries` are (arm, damaged, whole). A study that was killed goes on when it is run again. Weights of models are
    removed once they have scored. Raises ConfigError where arms are judged on different rows.
    """
    ran: dict[str, _Ran] = {}
    judged: tuple[JudgedRows, str] | None = None
    for arm in arms:
        outcomes = []
        for seed in range(seeds):
            log.info("== %s, seed %d of %d", arm.name, seed + 1, seeds)
            pipeline = Pipeline(with_seed(arm.recipe, seed), store)
            outcomes.append((pipeline, pipeline.evaluate(keep_checkpoint=False)))
        rows = _test_rows(outcomes[0][0], outcomes[0][1])
        if judged is not None and (rows.labels, rows.groups) != (judged[0].labels, judged[0].groups):
            raise ConfigError(f"arm {arm.name!r} is judged on other rows than {arms[0].name!r}; expected the same")
        judged = judged or (rows, outcomes[0][1].evaluated_on)
        ran[arm.name] = _Ran(_scores(outcomes), _origins([pipeline for pipeline, _ in outcomes]))
    if judged is None:
        raise InputError("ablation: no arms")
    first = arms[0].recipe
    study = _compare(judged[0], arms, ran, recoveries)
    return study.model_copy(
        update={"task": first.task, "model": first.model, "seeds": seeds, "evaluated_on": judged[1]}
    )


def _compare(
    rows: JudgedRows, arms: Sequence[Arm], ran: dict[str, _Ran], recoveries: Sequence[tuple[str, str, str]]
) -> Study:
    slices = rows.slices()
    draws: dict[str, dict[str, Draws]] = {
        name: {part: draw(rows, found.scores, mask) for part, mask in slices.items()} for name, found in ran.items()
    }
    labels = np.asarray(rows.labels)

    def by_slice(one: str, other: str, metric: str) -> dict[str, Interval]:
        return {part: difference(draws[one][part], draws[other][part], metric) for part in slices}

    return Study(
        task="",
        model="",
        seeds=0,
        evaluated_on="",
        test_rows=len(labels),
        test_groups=len(set(rows.groups)),
        always_yes_f1={part: _always_yes(labels[mask]) for part, mask in slices.items()},
        arms=[
            ArmResult(
                name=arm.name,
                rows=ran[arm.name].rows,
                metrics={part: measured(found) for part, found in draws[arm.name].items()},
            )
            for arm in arms
        ],
        comparisons=[
            Comparison(
                arm=arm.name,
                against=other,
                auc=by_slice(arm.name, other, "auc"),
                f1=by_slice(arm.name, other, "f1"),
            )
            for arm in arms
            for other in arm.against
        ],
        recoveries=[
            Recovery(
                arm=arm,
                damaged=damaged,
                whole=whole,
                auc={part: recovered(draws[arm][part], draws[damaged][part], draws[whole][part]) for part in slices},
            )
            for arm, damaged, whole in recoveries
        ],
    )


def _always_yes(labels: np.ndarray) -> float:
    return float(2 * labels.sum() / (len(labels) + labels.sum()))


def _columns(outcome: Outcome) -> dict[str, list]:
    return read_logits(outcome.logits)


def _test_rows(pipeline: Pipeline, outcome: Outcome) -> JudgedRows:
    columns = _columns(outcome)
    seen = sorted({row.pair.language for row in read_rows(outcome.stages["split"].file(TRAIN), pipeline.recipe.task)})
    return JudgedRows(columns["label"], columns["group"], columns["language"], seen)


def _scores(outcomes: Sequence[tuple[Pipeline, Outcome]]) -> Scores:
    found = [(_columns(outcome), outcome.tuned) for _, outcome in outcomes]
    scores = np.stack([tuned.scores(columns["logit"]) for columns, tuned in found])
    cuts = [[tuned.threshold_for(language) for language in columns["language"]] for columns, tuned in found]
    return Scores(scores, np.asarray(cuts))


def _origins(pipelines: Sequence[Pipeline]) -> dict[str, float]:
    """Return the training rows by origin, as means over the seeds."""
    counts: Counter[str] = Counter()
    for pipeline in pipelines:
        rows = pipeline.datasets().train
        counts["all"] += len(rows)
        counts["positive"] += sum(row.label for row in rows)
        counts.update(str(row.extra.get("source", "original")) for row in rows)
    return {name: round(count / len(pipelines), 1) for name, count in counts.items()}
