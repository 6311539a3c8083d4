"""Whether a model's labels say anything: one check for `train`, the pipeline, `export` and `verify`.

Its findings are kept in card and manifest (`findings`) and shown as warnings. None of them stops anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.metrics import HISTOGRAM_ROWS, always_yes_f1, auc, f1

ALMOST_ALL = 0.97  # a larger share of one label says next to nothing
ONE_SCORE = 0.01  # nine tenths of the scores lie closer together
ENOUGH_PAIRS = 20  # of fewer pairs shares say nothing
NO_BETTER = 0.005  # F1 or AUC

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelling:
    """Scores [N], what they are labelled [N], and where they are known the true labels [N] and languages [N].

    `cosine_auc` is the AUC of the cosine of query and candidate in the base model, on the same pairs.
    """

    scores: ArrayLike
    predicted: ArrayLike
    labels: Sequence[int] | None = None
    languages: Sequence[str] | None = None
    cosine_auc: float | None = None


def findings(judged: Labelling) -> tuple[str, ...]:
    """Return what is wrong with a model's labels, a sentence each; languages with enough pairs are judged apart."""
    scores, predicted = np.asarray(judged.scores, dtype=np.float64), np.asarray(judged.predicted, dtype=bool)
    labels = None if judged.labels is None else np.asarray(judged.labels)
    found = list(_of_slice(scores, predicted, labels, "all pairs", ENOUGH_PAIRS))
    area = None if labels is None or len(labels) < HISTOGRAM_ROWS else auc(labels, scores)
    if area is not None and judged.cosine_auc is not None and area <= judged.cosine_auc + NO_BETTER:
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
    scores: Floats, predicted: NDArray[np.bool_], labels: NDArray[np.int64] | None, name: str, least: int
) -> Iterator[str]:
    if len(scores) < least:
        return
    share = float(predicted.mean())
    if not 1 - ALMOST_ALL < share < ALMOST_ALL:
        yield f"{name}: {share:.0%} of {len(scores)} pairs are labelled 1, so the label says next to nothing"
    low, high = np.percentile(scores, [5, 95])
    if high - low < ONE_SCORE:
        yield f"{name}: the scores collapse, nine tenths lie between {low:.3f} and {high:.3f}"
    if labels is None or len(labels) < HISTOGRAM_ROWS or len(set(labels.tolist())) < 2:
        return
    gained, yes = f1(labels, predicted), always_yes_f1(labels)
    if gained <= yes + NO_BETTER:
        yield f"{name}: F1 {gained:.3f} is no better than always saying yes, {yes:.3f}"
    if (area := auc(labels, scores)) is not None and area <= 0.5 + NO_BETTER:
        yield f"{name}: AUC {area:.3f} is no better than chance, 0.5"
