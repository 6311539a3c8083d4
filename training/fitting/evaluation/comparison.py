"""Two models on the same labelled rows: paired differences with intervals, and a verdict.

A draw resamples groups of linked rows, the same ones for both models: what is hard for both cancels out, so that a
difference is known better than either side.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from rich.table import Table

from relevance.evaluation.intervals import Floats, Interval, cluster_weights, interval
from relevance.evaluation.metrics import Scored, weighted_auc, weighted_f1
from relevance.evaluation.ranking import Rankings, weighted_means
from relevance.storage.strict import StrictModel

Verdict = Literal["better", "same", "worse", "unknown"]
RESAMPLES = 1000
_SIDES = 2  # the model and the other one


class Paired(StrictModel):
    """A metric of the model and of the other one, and their difference with its 95 % interval."""

    model: float | None
    other: float | None
    difference: Interval


class Comparison(StrictModel):
    """The model against another one on the same rows. F1 and labels are by each model's own thresholds.

    `verdict`: better or worse where the interval of the difference of AUC excludes 0; same where it does not, which is
    no proof that they are equal; unknown where the rows have one label. `languages` holds differences of AUC.
    `ndcg_at_10` is null where no query has candidates of both labels.
    """

    other: str
    folder: str = Field(description="what tells models of the same name apart")
    verdict: Verdict
    auc: Paired
    f1: Paired
    ndcg_at_10: Paired | None = Field(description="over the queries that have candidates of both labels")
    languages: dict[str, Interval]

    def line(self) -> str:
        """Return the verdict as the rest of a sentence: `better than FOLDER: ...`."""
        found = f"AUC {self.auc.difference:+.3f}"
        return {
            "better": f"better than {self.folder}: {found} excludes 0",
            "worse": f"worse than {self.folder}: {found} excludes 0",
            "same": f"the same as {self.folder}: {found} includes 0",
            "unknown": f"not compared with {self.folder}: the rows have one label, so there is no AUC",
        }[self.verdict]


def compare(scored: Scored, other: Scored, names: tuple[str, str], seed: int = 0) -> Comparison:
    """Return the comparison of a model with another one, `names`: its name and folder.

    Both must have the same rows [N] in the same order, with thresholds.
    """
    languages = np.asarray(scored.languages, dtype=object).astype(str)
    every = np.ones(len(languages), dtype=bool)
    area, f1 = _paired_rows(scored, other, every, seed)
    by_language = {code: _paired_rows(scored, other, languages == code, seed)[0] for code in sorted(set(languages))}
    return Comparison(
        other=names[0],
        folder=names[1],
        verdict=_verdict(area.difference),
        auc=area,
        f1=f1,
        ndcg_at_10=_paired_queries(scored, other, seed),
        languages={code: found.difference for code, found in by_language.items()},
    )


def comparison_table(comparisons: Sequence[Comparison], name: str) -> Table:
    """Return a table of differences, a line a model."""
    table = Table(title=f"{name} less another model, same rows", caption="95 % intervals; the verdict is by AUC")
    for column in ("other model", "AUC", "F1", "nDCG@10", "verdict"):
        table.add_column(
            column, justify="left" if column in ("other model", "verdict") else "right", no_wrap=column != "other model"
        )
    for each in comparisons:
        differences = [each.auc.difference, each.f1.difference]
        ranked = f"{each.ndcg_at_10.difference:+.3f}" if each.ndcg_at_10 else "-"
        table.add_row(each.folder, *(f"{found:+.3f}" for found in differences), ranked, each.verdict)
    return table


def _verdict(area: Interval) -> Verdict:
    if area.value is None or area.low is None or area.high is None:
        return "unknown"
    if area.low > 0:
        return "better"
    return "worse" if area.high < 0 else "same"


def _paired_rows(scored: Scored, other: Scored, mask: NDArray[np.bool_], seed: int) -> tuple[Paired, Paired]:
    """Return AUC and F1 of the rows that a mask [N] chooses."""
    labels = np.asarray(scored.labels, dtype=np.float64)[mask]
    sides = [
        (np.unique(np.asarray(each.scores)[mask], return_inverse=True)[1], each.predicted(0.5)[mask].astype(float))
        for each in (scored, other)
    ]

    def measure(weights: Floats) -> Floats:
        areas = [weighted_auc(labels, ranks, weights) for ranks, _ in sides]
        return np.stack([*areas, *(weighted_f1(labels, predicted, weights) for _, predicted in sides)])

    draws = [measure(weights) for weights in cluster_weights(_groups(scored.queries, mask), RESAMPLES, seed)]
    values, drawn = measure(np.ones((1, len(labels))))[:, 0], np.concatenate(draws, axis=1)
    return _paired(values[:_SIDES], drawn[:_SIDES]), _paired(values[_SIDES:], drawn[_SIDES:])


def _paired_queries(scored: Scored, other: Scored, seed: int) -> Paired | None:
    """Return nDCG@10 of the queries that have candidates of both labels; None where there are none."""
    rankings = Rankings(scored.lists, scored.labels) if scored.lists else None
    if not rankings:
        return None
    found = np.stack([rankings.ndcg(each.scores) for each in (scored, other)])
    weights = cluster_weights(_groups(scored.queries, rankings.first), RESAMPLES, seed)
    drawn = np.concatenate([weighted_means(found, each) for each in weights], axis=1)
    return _paired(weighted_means(found, np.ones((1, len(rankings))))[:, 0], drawn)


def _paired(values: Floats, draws: Floats) -> Paired:
    """Return the metric of values [2] and draws [2, R]."""
    sides = [None if np.isnan(value) else float(value) for value in values]
    return Paired(model=sides[0], other=sides[1], difference=interval(values[0] - values[1], draws[0] - draws[1]))


def _groups(queries: Sequence[str], chosen: ArrayLike) -> NDArray[np.intp]:
    """Return the numbers from 0 of the groups of linked rows, for chosen rows."""
    return np.unique(np.asarray(queries, dtype=object)[chosen].astype(str), return_inverse=True)[1]
