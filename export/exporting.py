"""From a checkpoint to a bundle: export, fuse, reduce, check against the checkpoint, pack. Made whole or not at all."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.checkpoint import Checkpoint
from export.onnx import OPSET, OUTPUT_NAME, versions, write_onnx
from export.runner import graph_inputs, run_onnx
from relevance.bundle import MODEL_FILE, Bundle, Golden, Manifest, Parity, Precision, write_bundle_files
from relevance.card import DEV_PAIRS_FILE, TOKENIZER_FILE, ModelCard
from relevance.errors import CheckpointError, ParityError
from relevance.files import whole_folder
from relevance.locks import locks_output
from relevance.metrics import f1
from relevance.outputs import check_outputs
from relevance.session import BundleSession
from relevance.soundness import Labelling, findings

log = logging.getLogger(__name__)

GOLDEN_A_LANGUAGE = 4


@dataclass(frozen=True)
class Limits:
    """How far a bundle may be from its checkpoint, and how far a runtime may be from the golden logits."""

    max_logit_difference: float
    max_f1_difference: float
    golden_tolerance: float


DEFAULT_LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(max_logit_difference=1e-3, max_f1_difference=0.005, golden_tolerance=0.02),
    "fp16": Limits(max_logit_difference=0.1, max_f1_difference=0.01, golden_tolerance=0.2),
    "int8": Limits(max_logit_difference=2.0, max_f1_difference=0.02, golden_tolerance=0.5),
}


@locks_output("out")
def export_bundle(checkpoint: Path, out: Path, precision: Precision, limits: Limits, *, overwrite: bool) -> Manifest:
    """Write the bundle folder `out` and return its manifest.

    Raises ConfigError where `out` exists and may not be replaced, CheckpointError where the
    checkpoint is incomplete, ParityError where the exported model is farther from the checkpoint than `limits` allow.
    """
    check_outputs([out], [checkpoint], overwrite=overwrite)
    source = Checkpoint.open(checkpoint)
    golden = _read_dev_pairs(checkpoint)
    tokens = source.tokenizer.encode_pairs(source.card.texts([g.pair for g in golden]))
    expected = source.logits(tokens)
    with whole_folder(out) as folder:
        fusions = write_onnx(source.scorer, folder / MODEL_FILE, precision)
        log.info("fusions: %s", ", ".join(f"{n} {name}" for name, n in fusions.items()) or "none")
        shutil.copyfile(checkpoint / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        logits = run_onnx(folder / MODEL_FILE, source.tokenizer, tokens, gpu=precision == "fp16")
        manifest = Manifest(
            **source.card.model_dump(exclude={"findings"}),
            findings=_findings(source.card, golden, logits),
            precision=precision,
            opset=OPSET,
            input_names=graph_inputs(folder / MODEL_FILE),
            output_name=OUTPUT_NAME,
            golden_tolerance=limits.golden_tolerance,
            parity=_parity(source, golden, expected, logits, limits),
            tools=versions(),
            sha256={},
        )
        chosen = _every_language(golden)
        kept = [golden[i].model_copy(update={"logit": float(logits[i])}) for i in chosen]
        sealed = write_bundle_files(folder, manifest, kept)
        BundleSession.open(Bundle.open(folder), device="auto" if precision == "fp16" else "cpu")  # as the service does
    for finding in sealed.findings:
        log.warning("%s: %s", out, finding)
    return sealed


def _findings(card: ModelCard, golden: list[Golden], logits: np.ndarray) -> tuple[str, ...]:
    """Return what training found wrong with the labels, and what the bundle's own labels of dev pairs add."""
    scores, languages = card.scores(logits), [g.language for g in golden]
    exported = findings(Labelling(scores, card.labels(scores, languages)))
    return (*card.findings, *(f"exported, dev pairs of {DEV_PAIRS_FILE}, {finding}" for finding in exported))


def _parity(
    source: Checkpoint, golden: list[Golden], expected: np.ndarray, logits: np.ndarray, limits: Limits
) -> Parity:
    """Measure the bundle's distance from the checkpoint. Raises ParityError past the limits."""
    labels = [g.label for g in golden]
    card = source.card
    languages = [g.language for g in golden]
    before, after = card.scores(expected), card.scores(logits)
    worst = int(np.argmax(np.abs(logits - expected)))
    parity = Parity(
        pairs=len(golden),
        languages=tuple(sorted({g.language for g in golden})),
        max_logit_difference=float(np.abs(logits - expected).max()),
        max_score_difference=float(np.abs(after - before).max()),
        f1_difference=f1(labels, card.labels(after, languages)) - f1(labels, card.labels(before, languages)),
        max_logit_difference_allowed=limits.max_logit_difference,
        f1_difference_allowed=limits.max_f1_difference,
    )
    if not parity.max_logit_difference <= limits.max_logit_difference:  # also catches NaN
        raise ParityError(
            f"export of {source.folder}: the pair {golden[worst].query!r} / {golden[worst].candidate!r} scores "
            f"{logits[worst]:.4f}, the checkpoint {expected[worst]:.4f}: a difference of "
            f"{parity.max_logit_difference:.4f}; expected at most {limits.max_logit_difference} "
            "(--max-logit-difference)"
        )
    if abs(parity.f1_difference) > limits.max_f1_difference:
        raise ParityError(
            f"export of {source.folder}: F1 on {len(golden)} dev pairs changes by {parity.f1_difference:+.4f}; "
            f"expected at most {limits.max_f1_difference} (--max-f1-difference)"
        )
    return parity


def _read_dev_pairs(checkpoint: Path) -> list[Golden]:
    path = checkpoint / DEV_PAIRS_FILE
    if not path.is_file():
        raise CheckpointError(f"checkpoint {checkpoint}: {DEV_PAIRS_FILE} is missing; expected pairs to check against")
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        pairs = [Golden(**json.loads(line), logit=0.0) for line in lines]
    except ValueError as error:  # no JSON, no UTF-8, or not the fields of a pair
        raise CheckpointError(f"checkpoint {checkpoint}: {DEV_PAIRS_FILE} is damaged ({error})") from None
    if not pairs:
        raise CheckpointError(f"checkpoint {checkpoint}: {DEV_PAIRS_FILE} is empty; expected pairs to check against")
    return pairs


def _every_language(golden: list[Golden]) -> list[int]:
    """Return the places of a few pairs of each language, half of either label where there are enough."""
    chosen: list[int] = []
    for language in sorted({g.language for g in golden}):
        for label in (1, 0):
            places = [i for i, g in enumerate(golden) if g.language == language and g.label == label]
            chosen += places[: GOLDEN_A_LANGUAGE // 2]
    return chosen
