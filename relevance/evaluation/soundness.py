"""Checks whether a model's labels are informative, for `train`, the pipeline, `export` and `verify`.

Card and manifest keep the findings, and commands show them as warnings. A finding never stops a command. Compares the
model with the cosine of its base model too, by language: where the cosine is as good, re-ranking earns nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.evaluation.intervals import Interval, cluster_weights, interval
from relevance.evaluation.metrics import HISTOGRAM_ROWS, always_yes_f1, auc, f1, weighted_auc
from relevance.storage.strict import StrictModel

MAX_LABEL_SHARE = 0.97  # with a larger share of one label, labels say almost nothing
MIN_SCORE_SPREAD = 0.01  # between the 5th and the 95th percentile
MIN_PAIRS = 20  # with fewer pairs, shares say nothing
MIN_GAIN = 0.005  # of F1 or AUC over a baseline
GAIN_RESAMPLES = 1000

Floats = NDArray[np.float64]


class Advice(StrEnum):
    """Whether to re-rank a language with the model, or to keep the order of the cosine."""

    RERANK = "rerank"
    UNPROVEN = "unproven"
    KEEP_ORDER = "keep_order"


class CosineGain(StrictModel):
    """AUC of a model and of its base model's cosine on the dev rows of a language, and the paired difference."""

    rows: int
    auc: float
    cosine_auc: float
    gain: Interval

    @property
    def advice(self) -> Advice:
        """Re-rank if the interval of the gain is above 0, keep the order if the gain itself is not; else unproven."""
        if self.auc <= self.cosine_auc:
            return Advice.KEEP_ORDER
        return Advice.RERANK if self.gain.low is not None and self.gain.low > 0 else Advice.UNPROVEN


@dataclass(frozen=True)
class Labelling:
    """Scores [N], their predicted labels [N], and, if known, the true labels [N] and languages [N].

    `cosine_auc` is the AUC of the cosine of query and candidate in the base model, on the same pairs, and `gains` are
    those of `cosine_gains`.
    """

    scores: ArrayLike
    predicted: ArrayLike
    labels: Sequence[int] | None = None
    languages: Sequence[str] | None = None
    cosine_auc: float | None = None
    gains: Mapping[str, CosineGain] = field(default_factory=dict)


def cosine_gains(
    labels: ArrayLike, scores: ArrayLike, cosines: ArrayLike, groups: Sequence[str], languages: Sequence[str]
) -> dict[str, CosineGain]:
    """Return the gain over the cosine by language, for languages with HISTOGRAM_ROWS rows of both labels; all are [N].

    Intervals resample groups of linked rows, the same ones for both scorers.
    """
    y, s, c = (np.asarray(each, dtype=np.float64) for each in (labels, scores, cosines))
    codes, names = np.asarray(languages, dtype=object), np.asarray(groups, dtype=object).astype(str)
    found = {}
    for code in sorted(set(languages)):
        mask = codes == code
        if mask.sum() >= HISTOGRAM_ROWS and 0 < y[mask].mean() < 1:
            found[code] = _gain(y[mask], s[mask], c[mask], np.unique(names[mask], return_inverse=True)[1])
    return found


def _gain(y: Floats, scores: Floats, cosines: Floats, clusters: NDArray[np.intp]) -> CosineGain:
    ranks = [np.unique(each, return_inverse=True)[1] for each in (scores, cosines)]

    def areas(weights: Floats) -> Floats:
        return np.stack([weighted_auc(y, each, weights) for each in ranks])

    own, other = areas(np.ones((1, len(y))))[:, 0].tolist()
    draws = np.concatenate([areas(weights) for weights in cluster_weights(clusters, GAIN_RESAMPLES, 0)], axis=1)
    return CosineGain(rows=len(y), auc=own, cosine_auc=other, gain=interval(own - other, draws[0] - draws[1]))


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
    found += [
        f"language {code}: AUC {each.auc:.3f} is no better than that of the base model's cosine, {each.cosine_auc:.3f} "
        f"(difference {each.gain:.3f}): keep the order of the first stage"
        for code, each in judged.gains.items()
        if each.advice is Advice.KEEP_ORDER
    ]
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
