"""Tuning on dev after training: calibration of the scores, thresholds of the labels, and the card with both."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from relevance.evaluation.soundness import Advice, Labelling, cosine_gains, findings
from relevance.model.card import Calibration, LanguageOffset, ModelCard, ThresholdSource, score_reference, sigmoid
from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair
from training.data.groups import linked_groups
from training.fitting.evaluation.options import CalibrationOptions
from training.fitting.evaluation.thresholds import choose_thresholds, warn_of_missing

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

MAX_OFFSET = 6.0  # of a logit: rows of one class would have an infinite one
NEWTON_STEPS = 30


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Logits [N] of pairs in languages that training did not see, and these languages [N]."""

    logits: ArrayLike = ()
    languages: Sequence[str] = ()


NO_PAIRS = Unlabelled()


class Tuned(StrictModel):
    """Calibration and thresholds, with the log loss [nats a row] on dev before and after calibration."""

    calibration: Calibration
    threshold: float
    language_thresholds: dict[str, float]
    threshold_sources: dict[str, ThresholdSource]
    log_loss_before: float
    log_loss_after: float
    dev_rows: int

    def scores(self, logits: ArrayLike, languages: Sequence[str]) -> Floats:
        """Return scores [N] in [0, 1] for logits [N] of pairs in these languages [N]."""
        return self.calibration.scores(logits, languages)

    def threshold_for(self, language: str) -> float:
        """Return the threshold of a language."""
        return self.language_thresholds.get(language, self.threshold)


def tune(
    rows: Sequence[LabeledPair],
    logits: ArrayLike,
    section: CalibrationOptions,
    seen: Sequence[str],
    unlabelled: Unlabelled = NO_PAIRS,
) -> Tuned:
    """Return what dev rows [N] and their logits [N] say. Thresholds apply to calibrated scores.

    Labels of languages that are not `seen` are used for the overall calibration alone; with `by_language` also for an
    offset of the language, and then the overall threshold is theirs too.
    """
    labels = np.array([row.label for row in rows], dtype=np.float64)
    languages = [row.pair.language for row in rows]
    z = np.asarray(logits, dtype=np.float64)
    calibration = platt(labels, z) if section.platt else Calibration()
    if section.by_language:
        offsets = language_offsets(labels, calibration.logits(z, languages), linked_groups(rows), languages)
        calibration = calibration.model_copy(update={"by_language": offsets})
    scores = calibration.scores(z, languages)
    given = None if section.threshold == "tuned" else float(section.threshold)
    labelled = {*seen, *calibration.by_language}
    chosen = choose_thresholds(labels, scores, languages, sorted(labelled), given)
    chosen = chosen.with_pairs(calibration.scores(unlabelled.logits, unlabelled.languages), unlabelled.languages)
    warn_of_missing(chosen, sorted(labelled), [*languages, *unlabelled.languages])
    return Tuned(
        calibration=calibration,
        threshold=chosen.overall,
        language_thresholds=chosen.by_language,
        threshold_sources=chosen.sources,
        log_loss_before=_log_loss(labels, z),
        log_loss_after=_log_loss(labels, calibration.logits(z, languages)),
        dev_rows=len(rows),
    )


@dataclass(frozen=True, slots=True)
class Dev:
    """Dev rows after training: labels, languages, groups of linked rows, the model's logits; all are [N].

    `cosines` [N] are those of the base model, or values with the same order; None if nobody has them.
    """

    labels: Sequence[int]
    languages: Sequence[str]
    groups: Sequence[str]
    logits: ArrayLike
    cosines: ArrayLike | None = None


def with_tuning(card: ModelCard, tuned: Tuned, dev: Dev) -> ModelCard:
    """Return the card with what was tuned, and with histograms of the scores of dev rows."""
    names = ("calibration", "threshold", "language_thresholds", "threshold_sources")
    found = {name: getattr(tuned, name) for name in names}
    reference = score_reference(tuned.scores(dev.logits, dev.languages), dev.languages)
    return ModelCard.model_validate(dict(card) | found | reference)


def with_findings(card: ModelCard, dev: Dev) -> ModelCard:
    """Return the card with what is wrong with its labels on dev rows, and its gains over the cosine; log each fault."""
    scores = card.scores(dev.logits, dev.languages)
    gains = {}
    if dev.cosines is not None:
        gains = cosine_gains(dev.labels, scores, dev.cosines, dev.groups, dev.languages)
    labels = card.labels(scores, dev.languages)
    found = findings(Labelling(scores, labels, dev.labels, dev.languages, card.cosine_auc, gains))
    for finding in found:
        log.warning("dev: %s", finding)
    if unproven := [code for code, gain in gains.items() if gain.advice is Advice.UNPROVEN]:
        log.info("dev: AUC is above the cosine's in %s, but the interval includes 0", ", ".join(unproven))
    return card.model_copy(update={"findings": found, "cosine_gains": gains})


def platt(labels: ArrayLike, logits: ArrayLike) -> Calibration:
    """Return the scale and offset of least log loss, with Platt's smoothed targets (Platt 1999).

    Returns no calibration where the best scale is not positive: it would reverse the order of the scores, and make a
    poor model look like a good one.
    """
    y, z = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    positive, negative = y.sum(), len(y) - y.sum()
    targets = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        moved = parameters[0] * z + parameters[1]
        slope = (sigmoid(moved) - targets) / len(y)
        return _log_loss(targets, moved), np.array([slope @ z, slope.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    if not np.isfinite(found).all() or found[0] <= 0:
        return Calibration()
    return Calibration(scale=float(found[0]), offset=float(found[1]))


def language_offsets(
    labels: ArrayLike, logits: ArrayLike, groups: Sequence[str], languages: Sequence[str]
) -> dict[str, LanguageOffset]:
    """Return the offset of each language on top of calibrated logits; all arguments are [N].

    The offset of least log loss is shrunk to 0 by t / (t + v): v is its sampling variance, t the variance between
    languages beyond sampling (DerSimonian and Laird 1986). This is empirical Bayes (Morris 1983): where languages
    differ by chance alone, t and all offsets are 0. v counts groups of linked rows, not rows.
    """
    y, z = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    codes, names = np.asarray(languages, dtype=object), np.asarray(groups, dtype=object).astype(str)
    masks = {code: codes == code for code in sorted(set(languages))}
    found = [_own_offset(y[mask], z[mask], names[mask]) for mask in masks.values()]
    own, variances = np.array(found, dtype=np.float64).reshape(-1, 2).T
    weights = 1 / variances
    spread = (weights * (own - np.average(own, weights=weights)) ** 2).sum() - (len(own) - 1)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, spread / scale) if len(own) > 1 else 0.0
    return {
        code: LanguageOffset(
            offset=float(raw * between / (between + variance)),
            own_offset=float(raw),
            rows=int(mask.sum()),
            source="dev rows",
        )
        for (code, mask), raw, variance in zip(masks.items(), own, variances, strict=True)
    }


def _own_offset(y: Floats, z: Floats, groups: NDArray[np.str_]) -> tuple[float, float]:
    """Return the offset of least log loss, within MAX_OFFSET, and its sampling variance (the sandwich of groups)."""
    offset = 0.0
    for _ in range(NEWTON_STEPS):
        p = sigmoid(z + offset)
        step = (y - p).sum() / max((p * (1 - p)).sum(), 1e-9)
        offset = float(np.clip(offset + np.clip(step, -1, 1), -MAX_OFFSET, MAX_OFFSET))
    p = sigmoid(z + offset)
    information = max(float((p * (1 - p)).sum()), 1e-9)
    errors = np.bincount(np.unique(groups, return_inverse=True)[1], weights=y - p)
    return offset, max(1 / information, float((errors**2).sum()) / information**2)


def _log_loss(labels: Floats, logits: Floats) -> float:
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))
