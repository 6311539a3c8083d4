"""Verification of a bundle: what the service does when it loads one, and what its labels are worth."""

from dataclasses import dataclass
from pathlib import Path

from relevance.bundle import Bundle
from relevance.session import BundleSession
from relevance.soundness import Labelling, findings


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that passed: its version, golden pairs, their largest difference (logits), and what was found."""

    version: str
    golden_pairs: int
    worst: float
    findings: tuple[str, ...]


def verify_bundle(folder: Path) -> Verified:
    """Open a bundle as the service does. Raises BundleError or MachineError where the service would refuse it."""
    session = BundleSession.open(Bundle.open(folder))
    bundle, manifest = session.bundle, session.bundle.manifest
    pairs = session.tokenizer.encode_pairs(manifest.texts([golden.pair for golden in bundle.golden]))
    logits = session.logits(pairs)
    scores, languages = manifest.scores(logits), [golden.language for golden in bundle.golden]
    new = [f"golden pairs, {finding}" for finding in findings(Labelling(scores, manifest.labels(scores, languages)))]
    worst = bundle.check_golden(logits.tolist())
    return Verified(manifest.version, len(bundle.golden), worst, (*manifest.findings, *new))
