"""Metrics of several arms on the same test rows, and their paired differences, with intervals over queries and seeds.

A draw resamples the test's query groups (a query with its translations) and the seeds, the same for all arms: what the
arms share cancels out, so that a difference is known better than either of its sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.evaluation.intervals import Interval, cluster_weights, interval
from relevance.evaluation.metrics import weighted_auc, weighted_f1

Floats = NDArray[np.float64]
RESAMPLES = 1000
METRICS = ("auc", "f1", "f1_at_half")


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows that all arms are judged on: labels, groups and languages [N], and the languages seen in training."""

    labels: Sequence[int]
    groups: Sequence[str]
    languages: Sequence[str]
    seen: Sequence[str]

    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """Return the rows [N] of each slice: all, seen and unseen languages, and each language; none of them empty."""
        languages = np.asarray(self.languages, dtype=object).astype(str)
        seen = np.isin(languages, list(self.seen))
        found = {"all": np.ones(len(seen), dtype=bool), "seen": seen, "unseen": ~seen}
        found |= {code: languages == code for code in sorted(set(languages.tolist()))}
        return {name: mask for name, mask in found.items() if mask.any()}


@dataclass(frozen=True, slots=True)
class Scores:
    """One arm's scores [S, N] of the test rows, by seed, and the thresholds [S, N] of the rows, tuned on dev."""

    scores: Floats
    thresholds: Floats


class Measured(BaseModel):
    """An arm's metrics in one slice, means over the seeds. `threshold_effect` is F1 tuned less F1 at 0.5."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc: Interval
    f1: Interval
    f1_at_half: Interval
    threshold_effect: Interval


@dataclass(frozen=True, slots=True)
class Draws:
    """One arm in one slice: each metric's value [S] and bootstrap draws [S, R]."""

    values: dict[str, Floats]
    draws: dict[str, Floats]


def draw(rows: JudgedRows, arm: Scores, mask: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES) -> Draws:
    """Return an arm's metrics in a slice, under draws that are the same for every arm."""
    labels = np.asarray(rows.labels, dtype=np.float64)[mask]
    groups = np.asarray(rows.groups, dtype=object)[mask].astype(str)
    clusters = np.unique(groups, return_inverse=True)[1]
    once = np.ones((1, len(labels)))
    parts = [
        {
            "auc": (np.unique(scores, return_inverse=True)[1], weighted_auc),
            "f1": ((scores >= cuts).astype(np.float64), weighted_f1),
            "f1_at_half": ((scores >= 0.5).astype(np.float64), weighted_f1),
        }
        for scores, cuts in zip(arm.scores[:, mask], arm.thresholds[:, mask], strict=True)
    ]

    def measure(weights: Floats) -> dict[str, Floats]:
        return {
            name: np.stack([part[name][1](labels, part[name][0], weights) for part in parts])  # type: ignore[operator]
            for name in METRICS
        }

    portions = [measure(weights) for weights in cluster_weights(clusters, resamples, seed)]
    values = {name: found[:, 0] for name, found in measure(once).items()}
    return Draws(values, {name: np.concatenate([p[name] for p in portions], axis=1) for name in METRICS})


def measured(found: Draws) -> Measured:
    """Return an arm's metrics with their intervals."""
    return Measured(
        **{name: _over_seeds(found.values[name], found.draws[name]) for name in METRICS},
        threshold_effect=_over_seeds(
            found.values["f1"] - found.values["f1_at_half"], found.draws["f1"] - found.draws["f1_at_half"]
        ),
    )


def difference(arm: Draws, other: Draws, metric: str) -> Interval:
    """Return an arm's metric minus another's, paired by seed and draw."""
    return _over_seeds(arm.values[metric] - other.values[metric], arm.draws[metric] - other.draws[metric])


def recovered(arm: Draws, damaged: Draws, whole: Draws, metric: str = "auc") -> Interval:
    """Return the share of the loss from `whole` to `damaged` that an arm recovers: 1 is all of it.

    All values are None where the interval of the loss includes 0: then there is nothing to recover.
    """
    loss_interval = difference(whole, damaged, metric)
    if loss_interval.low is None or loss_interval.low <= 0:
        return Interval(value=None, low=None, high=None)

    def ratio(of: str) -> tuple[Floats, Floats]:
        a, b, c = (getattr(part, of)[metric] for part in (arm, damaged, whole))
        return a - b, c - b

    (gain, loss), (gains, losses) = ratio("values"), ratio("draws")
    picks = _seed_picks(*gains.shape)
    columns = np.arange(gains.shape[1])
    lost = losses[picks, columns].mean(axis=0)
    found = np.divide(gains[picks, columns].mean(axis=0), lost, out=np.full(len(lost), np.nan), where=lost > 0)
    return interval(float(gain.mean() / loss.mean()), found)


def _over_seeds(values: Floats, draws: Floats) -> Interval:
    """Return the mean over seeds of values [S], with the interval of draws [S, R] whose seeds are resampled too."""
    picks = _seed_picks(*draws.shape)
    return interval(float(values.mean()), draws[picks, np.arange(draws.shape[1])].mean(axis=0))


def _seed_picks(seeds: int, resamples: int) -> NDArray[np.int64]:
    return np.random.default_rng(seeds).integers(seeds, size=(seeds, resamples))
