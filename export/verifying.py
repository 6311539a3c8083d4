"""What an exported bundle is checked by: parity with its checkpoint, golden pairs, and whether its labels say anything.

`verify_bundle` does what the service does when it loads a bundle; one for vLLM is run by transformers instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.errors import ParityError
from relevance.evaluation.metrics import f1
from relevance.evaluation.soundness import Labelling, findings
from relevance.model.bundle import Bundle, Golden, Parity, read_manifest
from relevance.model.card import ModelCard
from relevance.model.inputs import PairInputs

Logits = NDArray[np.float32]

GOLDEN_A_LANGUAGE = 4


@dataclass(frozen=True)
class Limits:
    """Largest differences between a bundle and its checkpoint, and between a runtime's logits and the golden ones."""

    max_logit_difference: float
    max_f1_difference: float
    golden_tolerance: float


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that passed: its version, golden pairs, their largest difference (logits), and all findings."""

    version: str
    golden_pairs: int
    worst: float
    findings: tuple[str, ...]


def verify_bundle(folder: Path) -> Verified:
    """Open a bundle as the service does. Raises BundleError or MachineError where the service would refuse it."""
    bundle, inputs, logits = _golden_logits(folder)
    manifest, pairs = bundle.manifest, [golden.pair for golden in bundle.golden]
    faults = (*label_findings(manifest, bundle.golden, logits), *inputs.findings(pairs))
    found = [f"golden pairs, {finding}" for finding in faults]
    worst = bundle.check_golden(logits.tolist())
    return Verified(manifest.version, len(bundle.golden), worst, (*manifest.findings, *found))


def _golden_logits(folder: Path) -> tuple[Bundle, PairInputs, Logits]:
    """Return an opened bundle of either kind, how it reads pairs, and its logits for the golden ones."""
    if read_manifest(folder).kind == "safetensors":
        from export.vllm.classifier import folder_logits  # needs torch and transformers

        bundle = Bundle.open(folder, "safetensors")
        inputs = bundle.inputs()
        return bundle, inputs, folder_logits(folder, bundle.manifest, inputs)([each.pair for each in bundle.golden])
    from relevance.model.cascade_session import open_model  # needs onnxruntime

    model = open_model(Bundle.open(folder))
    pairs = [golden.pair for golden in model.bundle.golden]
    return model.bundle, model.inputs, model.read(pairs, model.inputs.encode(pairs)).logits


def label_findings(card: ModelCard, golden: Sequence[Golden], logits: ArrayLike) -> tuple[str, ...]:
    """Return what is wrong with the labels that a model gives golden pairs [N] with these logits [N]."""
    languages = [pair.language for pair in golden]
    scores = card.scores(logits, languages)
    return findings(Labelling(scores, card.labels(scores, languages)))


def parity(
    checkpoint: Path, card: ModelCard, golden: Sequence[Golden], logits: tuple[Logits, Logits], limits: Limits
) -> Parity:
    """Compare the logits [N] of a checkpoint with those of its bundle. Raises ParityError past the limits."""
    expected, found = logits
    labels, languages = [g.label for g in golden], [g.language for g in golden]
    before, after = card.scores(expected, languages), card.scores(found, languages)
    differences = np.abs(found - expected)
    result = Parity(
        pairs=len(golden),
        languages=tuple(sorted(set(languages))),
        max_logit_difference=float(differences.max()),
        max_score_difference=float(np.abs(after - before).max()),
        f1_difference=f1(labels, card.labels(after, languages)) - f1(labels, card.labels(before, languages)),
        max_logit_difference_allowed=limits.max_logit_difference,
        f1_difference_allowed=limits.max_f1_difference,
    )
    if not result.max_logit_difference <= limits.max_logit_difference:  # also catches NaN
        worst = int(differences.argmax())
        raise ParityError(
            f"export of {checkpoint}: the pair {golden[worst].query!r} / {golden[worst].candidate!r} scores "
            f"{found[worst]:.4f}, the checkpoint {expected[worst]:.4f}: a difference of "
            f"{result.max_logit_difference:.4f}; expected at most {limits.max_logit_difference} "
            "(--max-logit-difference)"
        )
    if abs(result.f1_difference) > limits.max_f1_difference:
        raise ParityError(
            f"export of {checkpoint}: F1 on {len(golden)} dev pairs changes by {result.f1_difference:+.4f}; "
            f"expected at most {limits.max_f1_difference} (--max-f1-difference)"
        )
    return result


def every_language(golden: Sequence[Golden]) -> list[int]:
    """Return the positions of a few pairs of each language, half of either label where there are enough."""
    chosen: list[int] = []
    for language in sorted({g.language for g in golden}):
        for label in (1, 0):
            places = [i for i, g in enumerate(golden) if g.language == language and g.label == label]
            chosen += places[: GOLDEN_A_LANGUAGE // 2]
    return chosen
