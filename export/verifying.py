"""Verification of a bundle: what the service does when it loads one, and whether its labels are informative."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from relevance.evaluation.soundness import Labelling, findings
from relevance.model.bundle import Bundle, Golden
from relevance.model.card import ModelCard
from relevance.model.cascade_session import open_model


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that passed: its version, golden pairs, their largest difference (logits), and all findings."""

    version: str
    golden_pairs: int
    worst: float
    findings: tuple[str, ...]


def verify_bundle(folder: Path) -> Verified:
    """Open a bundle as the service does. Raises BundleError or MachineError where the service would refuse it."""
    model = open_model(Bundle.open(folder))
    bundle, manifest = model.bundle, model.bundle.manifest
    pairs = [golden.pair for golden in bundle.golden]
    logits = model.read(pairs, model.inputs.encode(pairs)).logits
    faults = (*label_findings(manifest, bundle.golden, logits), *model.inputs.findings(pairs))
    found = [f"golden pairs, {finding}" for finding in faults]
    worst = bundle.check_golden(logits.tolist())
    return Verified(manifest.version, len(bundle.golden), worst, (*manifest.findings, *found))


def label_findings(card: ModelCard, golden: Sequence[Golden], logits: ArrayLike) -> tuple[str, ...]:
    """Return what is wrong with the labels that a model gives golden pairs [N] with these logits [N]."""
    languages = [pair.language for pair in golden]
    scores = card.scores(logits, languages)
    return findings(Labelling(scores, card.labels(scores, languages)))
