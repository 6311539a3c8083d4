"""Tuning on dev after training: calibration of the scores, thresholds of the labels, and the card with both."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from relevance.card import Calibration, ModelCard, ThresholdSource, score_reference, sigmoid
from relevance.metrics import best_threshold
from relevance.soundness import Advice, Labelling, cosine_gains, findings
from relevance.strict import StrictModel
from relevance.tasks import LabeledPair
from training.fitting.options import CalibrationOptions
from training.fitting.thresholds import choose_thresholds, warn_of_missing

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


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

    def scores(self, logits: ArrayLike) -> Floats:
        """Return scores [N] in [0, 1] for logits [N]."""
        return self.calibration.scores(logits)

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

    Labels of languages that are not `seen` are used for the calibration, and with `by_language` for thresholds.
    """
    labels = np.array([row.label for row in rows], dtype=np.float64)
    languages = np.array([row.pair.language for row in rows])
    z = np.asarray(logits, dtype=np.float64)
    calibration = platt(labels, z) if section.platt else Calibration()
    scores = calibration.scores(z)
    given = None if section.threshold == "tuned" else float(section.threshold)
    chosen = choose_thresholds(labels, scores, languages.tolist(), seen, given)
    chosen = chosen.with_pairs(calibration.scores(unlabelled.logits), unlabelled.languages)
    by_language, sources = chosen.by_language, chosen.sources
    for language in sorted(set(languages.tolist())) if section.by_language else ():
        mask = languages == language
        if mask.sum() >= section.least_rows and 0 < labels[mask].mean() < 1:
            cut = by_language[language] = best_threshold(labels[mask], scores[mask])[0]
            share = float((scores[mask] >= cut).mean())
            sources[language] = ThresholdSource(
                method="labelled", source="dev rows", rows=int(mask.sum()), positive_share=share
            )
    warn_of_missing(chosen, seen, [*languages.tolist(), *unlabelled.languages])
    return Tuned(
        calibration=calibration,
        threshold=chosen.overall,
        language_thresholds=by_language,
        threshold_sources=sources,
        log_loss_before=_log_loss(labels, z),
        log_loss_after=_log_loss(labels, z * calibration.scale + calibration.offset),
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
    found = {name: getattr(tuned, name) for name in names} | score_reference(tuned.scores(dev.logits), dev.languages)
    return ModelCard.model_validate(dict(card) | found)


def with_findings(card: ModelCard, dev: Dev) -> ModelCard:
    """Return the card with what is wrong with its labels on dev rows, and its gains over the cosine; log each fault."""
    scores = card.scores(dev.logits)
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


def _log_loss(labels: Floats, logits: Floats) -> float:
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))
