"""Which labels are doubtful, given out-of-fold scores: pure functions of arrays.

Throughout, labels [N] are in {0, 1} and scores [N] are probabilities of label 1 in [0, 1].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.selfvalidation.options import Prune

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConfidentJoint:
    """The counts of confident learning. First axis: the given label; second: the likely label.

    `thresholds` [2]: mean probability of each class among the rows with that label (infinite for a class without
    rows). `counts` [2, 2]: rows whose probability reaches the threshold of a class. `calibrated` [2, 2]: the same,
    scaled so that each given label has its number of rows. `likely` [N]: the class that each row counts for, -1 for
    none.
    """

    thresholds: Floats
    counts: NDArray[np.int64]
    calibrated: Floats
    likely: NDArray[np.int64]

    @property
    def noise_rate(self) -> float:
        """The estimated share of wrong labels, in [0, 1]."""
        total = self.calibrated.sum()
        return float((self.calibrated[0, 1] + self.calibrated[1, 0]) / total) if total else 0.0


def doubt(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the probability [N] of the label that a row does not have: the higher, the worse."""
    y, p = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    return np.where(y == 1, 1 - p, p)


def contradictions(labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike, margin: float) -> Bools:
    """Return True [N] where the score contradicts the label: beyond its threshold (one, or [N]) by `margin` or more."""
    y, p, t = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    return np.where(y == 1, (p < t) & (p <= t - margin), (p >= t) & (p >= t + margin))


def boundary_band(scores: ArrayLike, thresholds: ArrayLike, width: float) -> Bools:
    """Return True [N] where the score is at most `width` away from its threshold (one, or [N]), whatever the label."""
    return np.abs(np.asarray(scores, dtype=np.float64) - np.asarray(thresholds, dtype=np.float64)) <= width


def confident_joint(labels: ArrayLike, scores: ArrayLike) -> ConfidentJoint:
    """Count given against likely labels (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068, equations 1 to 3).

    A row is likely of class j where its probability of j reaches the threshold of j; where it reaches both, of the
    more probable class, and of its own label in a tie (the paper leaves ties open). A label whose threshold no row
    reaches is taken as always right.
    """
    y, p = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    by_class = np.stack([1 - p, p])
    means = [by_class[j][y == j].mean() if (y == j).any() else np.inf for j in (0, 1)]
    thresholds = np.array(means, dtype=np.float64)
    # A mean of equal numbers can come out a rounding step above them.
    sure = by_class >= thresholds[:, None] - 1e-12
    more_probable = np.where(p > 0.5, 1, np.where(p < 0.5, 0, y))
    likely = np.where(sure.all(axis=0), more_probable, np.where(sure[1], 1, np.where(sure[0], 0, -1)))
    counts = np.array([[int(((y == s) & (likely == j)).sum()) for j in (0, 1)] for s in (0, 1)], dtype=np.int64)
    calibrated = np.zeros((2, 2))
    for s in (0, 1):
        row = counts[s] if counts[s].sum() else np.eye(2, dtype=np.int64)[s]
        calibrated[s] = row / row.sum() * (y == s).sum()
    return ConfidentJoint(thresholds, counts, calibrated, likely)


def confident_learning(labels: ArrayLike, scores: ArrayLike, prune: Prune) -> Bools:
    """Return True [N] for labels that are wrong according to confident learning.

    OFF_DIAGONAL flags the rows that count for the other class. NOISE_RATE ("prune by noise rate") flags of each label
    as many rows as the calibrated joint has off its diagonal, the most doubtful first.
    """
    y, p = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    joint = confident_joint(y, p)
    if prune is Prune.OFF_DIAGONAL:
        return (joint.likely >= 0) & (joint.likely != y)
    flagged = np.zeros(len(y), dtype=bool)
    wrongness = doubt(y, p)
    for s in (0, 1):
        members = np.flatnonzero(y == s)
        most = round(float(joint.calibrated[s, 1 - s]))
        flagged[members[np.argsort(-wrongness[members], kind="stable")][:most]] = True
    return flagged


def all_disagree(labels: ArrayLike, scores: ArrayLike, confidence: float) -> Bools:
    """Return True [N] where every model (scores [M, N]) gives the other label at least the probability `confidence`."""
    return (doubt(labels, scores) >= confidence).all(axis=0)


def agreement(scores: ArrayLike, thresholds: ArrayLike) -> Bools:
    """Return True [N] where all models (scores [M, N]) are on the same side of their thresholds (one, or [M, N])."""
    sides = np.asarray(scores, dtype=np.float64) >= np.asarray(thresholds, dtype=np.float64)
    return sides.all(axis=0) | ~sides.any(axis=0)


def worst(flagged: ArrayLike, doubts: ArrayLike, most: int, groups: NDArray[np.int64]) -> Bools:
    """Return `flagged` [N] with at most `most` rows left, those with the greatest doubt, the earlier ones of equals.

    A group [N] that is not left whole is not left at all, so that no label is both kept and dropped.
    """
    mask = np.asarray(flagged, dtype=bool)
    places = np.flatnonzero(mask)
    kept = np.zeros(len(mask), dtype=bool)
    kept[places[np.argsort(-np.asarray(doubts, dtype=np.float64)[places], kind="stable")][:most]] = True
    return kept & ~np.isin(groups, groups[~kept])
