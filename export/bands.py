"""Which scores of a small model a cascade passes on: the least of them for a stated loss of F1. Knows no models."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.evaluation.metrics import f1
from relevance.model.cascade import Band, Scale, StageF1
from relevance.tasks import query_key

MOST_EDGES = 600  # tried on each side of the threshold; between them lie equally many rows
FOLDS = 5
NEWTON_STEPS = 50
MARGIN = 0.01  # beyond the outermost distance of the rows, in logits

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StageScores:
    """What a band is chosen by, [N] each: labels, distances of the small model, and labels that the large one gives."""

    labels: Flags
    distances: Floats
    large: Flags

    def part(self, mask: Flags) -> "StageScores":
        """Return the rows of a mask [N]."""
        return StageScores(self.labels[mask], self.distances[mask], self.large[mask])

    def passing(self, passed: Flags) -> StageF1:
        """Return what a cascade does that passes on these rows [N]."""
        small = self.distances >= 0
        both = np.where(passed, self.large, small)
        found = {"small": small, "large": self.large, "cascade": both}
        measured = {name: f1(self.labels, labels) for name, labels in found.items()}
        return StageF1(rows=len(self.labels), passed_on=float(passed.mean()), **measured)


def common_scale(small: Floats, large: Floats, labels: Flags) -> Scale:
    """Return how logits [N] of the small model are put on the scale of the large model's, by labels [N].

    Raises InputError for a model whose logits do not rise with the labels.
    """
    (slope, offset), (large_slope, large_offset) = (_platt(logits, labels) for logits in (small, large))
    for name, found in (("small", slope), ("large", large_slope)):
        if found <= 0:
            raise InputError(
                f"the {name} model's scores do not rise with the labels of the rows; expected a better one"
            )
    return Scale(slope=slope / large_slope, offset=(offset - large_offset) / large_slope)


def _platt(logits: Floats, labels: Flags) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of labels [N] on logits [N], by Newton's method.

    Two further rows, one of each label at either end, keep the slope finite where the logits part the labels.
    """
    ends = [logits.min(), logits.max()]
    x = np.stack([np.concatenate([logits, ends]), np.ones(len(logits) + 2)])
    y, found = np.concatenate([labels, [True, False]]).astype(np.float64), np.zeros(2)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(found @ x, -30, 30)))
        hessian = (x * (p * (1 - p) + 1e-9)) @ x.T + 1e-6 * np.eye(2)
        found = found - np.linalg.solve(hessian, x @ (p - y))
    return float(found[0]), float(found[1])


def choose_band(scores: StageScores, max_f1_loss: float) -> Band:
    """Return the band that passes on the fewest rows while F1 is at least the large model's less `max_f1_loss`.

    All bands around the threshold are compared whose edges lie between two rows; of many rows, MOST_EDGES on each side.
    Of equally small bands the one with the best F1 is taken.
    """
    order = np.argsort(scores.distances, kind="stable")
    d, y, large = scores.distances[order], scores.labels[order], scores.large[order]
    rows, middle = len(d), int(np.searchsorted(d, 0.0))
    lower, upper = _edges(d[:middle], 0, middle), _edges(d[middle:], middle, rows)
    yes, hits, positives = (np.append(0, np.cumsum(each)) for each in (large, large & y, y))
    low, high = lower[:, None], upper[None, :]  # rows [low, high) are passed on
    true_positives = hits[high] - hits[low] + positives[rows] - positives[high]
    labelled = yes[high] - yes[low] + rows - high
    values = 2 * true_positives / np.maximum(positives[rows] + labelled, 1)
    allowed = values >= f1(y, large) - max_f1_loss - 1e-12
    allowed[0, -1] = True  # all rows: the large model itself, whatever rounding says
    cost = np.where(allowed, high - low, rows + 1).astype(np.float64)
    best = np.unravel_index(np.argmin(cost - values / 2), cost.shape)  # F1 / 2 is less than one row
    first, last = int(lower[best[0]]), int(upper[best[1]])
    return Band(
        below=max(0.0, -_edge(d, first)) if first < middle else 0.0, above=_edge(d, last) if last > middle else 0.0
    )


def held_out(scores: StageScores, queries: Sequence[str], max_f1_loss: float) -> StageF1:
    """Return what a cascade does whose band for each fold of queries was chosen on the rows of the other folds."""
    keys = [hashlib.sha256(query_key(query).encode()).digest()[0] % FOLDS for query in queries]
    folds, passed = np.array(keys), np.zeros(len(keys), dtype=np.bool_)
    for fold in range(FOLDS):
        others, own = folds != fold, folds == fold
        if others.any():
            passed[own] = choose_band(scores.part(others), max_f1_loss).holds(scores.distances[own])
    return scores.passing(passed)


def _edges(distances: Floats, start: int, end: int) -> NDArray[np.intp]:
    """Return the places `start` to `end` at which a band may begin or end: between two rows of different distances."""
    between = np.flatnonzero(np.diff(distances) > 0) + 1 + start
    places = np.unique(np.concatenate([[start], between, [end]]))
    if len(places) > MOST_EDGES:
        places = places[np.unique(np.linspace(0, len(places) - 1, MOST_EDGES).round().astype(int))]
    return places


def _edge(distances: Floats, place: int) -> float:
    """Return a distance between the row at a place and the one before it."""
    if place == 0:
        return float(distances[0]) - MARGIN
    if place == len(distances):
        return float(distances[-1]) + MARGIN
    return float(distances[place - 1] + distances[place]) / 2
