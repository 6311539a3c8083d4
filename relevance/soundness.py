"""Checks whether a model's labels are informative, for `train`, the pipeline, `export` and `verify`.

Card and manifest keep the findings, and commands show them as warnings. A finding never stops a command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.metrics import HISTOGRAM_ROWS, always_yes_f1, auc, f1

MAX_LABEL_SHARE = 0.97  # with a larger share of one label, labels say almost nothing
MIN_SCORE_SPREAD = 0.01  # between the 5th and the 95th percentile
MIN_PAIRS = 20  # with fewer pairs, shares say nothing
MIN_GAIN = 0.005  # of F1 or AUC over a baseline

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelling:
    """Scores [N], their predicted labels [N], and, if known, the true labels [N] and languages [N].

    `cosine_auc` is the AUC of the cosine of query and candidate in the base model, on the same pairs.
    """

    scores: ArrayLike
    predicted: ArrayLike
    labels: Sequence[int] | None = None
    languages: Sequence[str] | None = None
    cosine_auc: float | None = None


def findings(judged: Labelling) -> tuple[str, ...]:
    """Return the faults of a model's labels, one sentence each; each language with enough pairs is checked too."""
    scores, predicted = np.asarray(judged.scores, dtype=np.float64), np.asarray(judged.predicted, dtype=bool)
    labels = None if judged.labels is None else np.asarray(judged.labels)
    found = list(_of_slice(scores, predicted, labels, "all pairs", MIN_PAIRS))
    area = None if labels is None or len(labels) < HISTOGRAM_ROWS else auc(labels, scores)
    if area is not None and judged.cosine_auc is not None and area <= judged.cosine_auc + MIN_GAIN:
        found.append(
            f"all pairs: AUC {area:.3f} is no better than that of the base model's cosine, {judged.cosine_auc:.3f}"
        )
    languages = np.asarray(judged.languages or [], dtype=object)
    for code in sorted(set(judged.languages or [])) if len(set(judged.languages or [])) > 1 else ():
        mask = languages == code
        part = None if labels is None else labels[mask]
        found += _of_slice(scores[mask], predicted[mask], part, f"language {code}", HISTOGRAM_ROWS)
    return tuple(found)


def _of_slice(
    scores: Floats, predicted: NDArray[np.bool_], labels: NDArray[np.int64] | None, name: str, min_pairs: int
) -> Iterator[str]:
    if len(scores) < min_pairs:
        return
    share = float(predicted.mean())
    if not 1 - MAX_LABEL_SHARE < share < MAX_LABEL_SHARE:
        yield f"{name}: {share:.0%} of {len(scores)} pairs are labelled 1, so the label says next to nothing"
    low, high = np.percentile(scores, [5, 95])
    if high - low < MIN_SCORE_SPREAD:
        yield f"{name}: the scores collapse, nine tenths lie between {low:.3f} and {high:.3f}"
    if labels is None or len(labels) < HISTOGRAM_ROWS or len(set(labels.tolist())) < 2:
        return
    gained, yes = f1(labels, predicted), always_yes_f1(labels)
    if gained <= yes + MIN_GAIN:
        yield f"{name}: F1 {gained:.3f} is no better than always saying yes, {yes:.3f}"
    if (area := auc(labels, scores)) is not None and area <= 0.5 + MIN_GAIN:
        yield f"{name}: AUC {area:.3f} is no better than chance, 0.5"
