"""All that `relevance evaluate` finds out about a model on labelled rows, as one object."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from relevance.evaluation.metrics import Report, Scored, Slice, evaluate
from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair, Task
from training.fitting.evaluation.comparison import Comparison, compare
from training.fitting.evaluation.report import OpenedModel, scored_rows
from training.reports.curves import (
    BudgetCurve,
    CalibrationCurve,
    ThresholdCurve,
    budget_curve,
    calibration_curve,
    threshold_curve,
)
from training.reports.mistakes import Mistake, worst

_TIMED_ROWS = 256
_TOKENS = ((1, 2), (3, 4), (5, 6), (7, 9), (10, 14))  # bins of query lengths


class Analysis(StrictModel):
    """Where a model is good and where it is wrong."""

    depths: dict[str, Slice] = Field(description="by number of levels of the category path (QC)")
    query_tokens: dict[str, Slice] = Field(description="by number of tokens of the query")
    calibration: CalibrationCurve
    threshold: ThresholdCurve
    budget: BudgetCurve | None = Field(description="null where no query has candidates of both labels")
    mistakes: tuple[Mistake, ...]
    pairs_per_second: float = Field(description="of this run on this machine, tokenisation included")


class Evaluation(Report):
    """The metrics of a model, its comparisons with other models, and the analysis that the page shows."""

    comparisons: tuple[Comparison, ...] = ()
    analysis: Analysis | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One model, its logits [N] of rows [N], the seconds that they take, and the rows with scores and thresholds."""

    model: OpenedModel
    rows: Sequence[LabeledPair]
    logits: NDArray[np.floating]
    seconds: float
    scored: Scored

    @classmethod
    def of(cls, folder: Path, rows: Sequence[LabeledPair]) -> "Run":
        """Open a checkpoint or a bundle and score the rows. Raises CheckpointError or BundleError."""
        model = OpenedModel.open(folder)
        logits, seconds = _timed(model, rows)
        return cls._joined(model, rows, logits, seconds)

    @classmethod
    def of_logits(cls, folder: Path, rows: Sequence[LabeledPair], logits: NDArray[np.floating]) -> "Run":
        """Open a model whose logits [N] of the rows [N] are known; only the first rows are scored, to time them."""
        model, few = OpenedModel.open(folder), rows[:_TIMED_ROWS]
        seconds = _timed(model, few)[1] * len(rows) / len(few)
        return cls._joined(model, rows, logits, seconds)

    @classmethod
    def _joined(
        cls, model: OpenedModel, rows: Sequence[LabeledPair], logits: NDArray[np.floating], seconds: float
    ) -> "Run":
        scores = model.card.scores(logits, [row.pair.language for row in rows])
        return cls(model, rows, logits, seconds, scored_rows(rows, scores, model.card))

    def report(self) -> Report:
        """Return the metrics."""
        return evaluate(self.scored, self.model.card.threshold, self.model.card.seen_languages)

    def beside(self, folder: Path) -> Comparison:
        """Return the comparison with another checkpoint or bundle on the same rows."""
        other = Run.of(folder, self.rows)
        return compare(self.scored, other.scored, (other.model.card.name, str(folder)))


def analyse(run: Run, seed: int = 0) -> Analysis:
    """Return the analysis of one model's run. Scores the worst errors again, with one word left out."""
    rows, card, scored = run.rows, run.model.card, run.scored
    depths = [len(card.format.levels(row.pair.candidate)) for row in rows] if card.task is Task.QC else []
    lengths = [len(ids) for ids in run.model.inputs.tokenizer.encode_texts([row.pair.query for row in rows])]
    return Analysis(
        depths=_slices(scored, {depth: _levels(depth) for depth in sorted(set(depths))}, depths, seed),
        query_tokens=_slices(scored, {length: _bin(length) for length in sorted(set(lengths))}, lengths, seed),
        calibration=calibration_curve(scored),
        threshold=threshold_curve(scored),
        budget=budget_curve(rows, scored, seed),
        mistakes=tuple(worst(rows, scored, run.logits, lambda some: run.model.logits(some, "errors, a word left out"))),
        pairs_per_second=len(rows) / max(run.seconds, 1e-9),
    )


def _timed(model: OpenedModel, rows: Sequence[LabeledPair]) -> tuple[NDArray[np.floating], float]:
    """Return the logits [N] of rows [N] and the seconds that they took."""
    start = time.perf_counter()
    logits = model.logits(rows)
    return logits, time.perf_counter() - start


def _slices(scored: Scored, names: Mapping[int, str], values: Sequence[int], seed: int) -> dict[str, Slice]:
    """Return the metrics of the rows of each name, in the order of the values [N] that have it."""
    if not values:
        return {}
    parts = evaluate(replace(scored, languages=[names[value] for value in values], lists=None), 0.5, seed=seed)
    return {name: parts.languages[name] for name in dict.fromkeys(names.values())}


def _levels(depth: int) -> str:
    return f"{depth} level{'s' * (depth != 1)}"


def _bin(tokens: int) -> str:
    found = next((f"{low}-{high}" for low, high in _TOKENS if tokens <= high), f"{_TOKENS[-1][1] + 1}+")
    return f"{found} tokens"
