"""From a checkpoint to a bundle: export, fuse, reduce, compare with the checkpoint, pack. Made whole or not at all."""

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.checkpoint import Checkpoint
from export.int8 import quantize
from export.onnx import head_nodes, versions, write_onnx
from export.tracing import OUTPUT_NAME
from export.verifying import label_findings
from relevance.errors import CheckpointError, ParityError
from relevance.evaluation.metrics import auc, f1
from relevance.model.bundle import MODEL_FILE, Bundle, Golden, Manifest, Parity, Precision, write_bundle_files
from relevance.model.card import DEV_PAIRS_FILE, TOKENIZER_FILE
from relevance.model.prior import PRIOR_FILE
from relevance.model.reports import EXPECTED, MAX_REPORT_BYTES, REPORTS_FOLDER, is_report, report_files
from relevance.model.session import BundleSession, Device, Logits
from relevance.storage.files import whole_folder
from relevance.storage.locks import locks_output
from relevance.storage.outputs import check_outputs

log = logging.getLogger(__name__)

GOLDEN_A_LANGUAGE = 4


@dataclass(frozen=True)
class Limits:
    """Largest differences between a bundle and its checkpoint, and between a runtime's logits and the golden ones."""

    max_logit_difference: float
    max_f1_difference: float
    golden_tolerance: float


DEFAULT_LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(max_logit_difference=1e-3, max_f1_difference=0.005, golden_tolerance=0.02),
    "fp16": Limits(max_logit_difference=0.1, max_f1_difference=0.01, golden_tolerance=0.2),
    "int8": Limits(max_logit_difference=0.5, max_f1_difference=0.02, golden_tolerance=0.2),
}


@locks_output("out")
def export_bundle(
    checkpoint: Path,
    out: Path,
    precision: Precision,
    limits: Limits,
    *,
    overwrite: bool,
    without_prior: bool = False,
) -> Manifest:
    """Write the bundle folder `out` and return its manifest.

    `without_prior` leaves the category prior out, for catalogues whose categories change; a finding says what it costs.
    Raises ConfigError where `out` exists and may not be replaced, CheckpointError where the checkpoint is incomplete,
    ParityError where the exported model's logits or F1 differ from the checkpoint's by more than `limits` allow.
    """
    check_outputs([out], [checkpoint], overwrite=overwrite)
    whole = Checkpoint.open(checkpoint)
    source = whole.without_prior() if without_prior else whole
    golden = _read_dev_pairs(checkpoint)
    pairs = [g.pair for g in golden]
    tokens = source.inputs.encode(pairs)
    expected = source.logits(tokens)
    device: Device = "auto" if precision == "fp16" else "cpu"
    with whole_folder(out) as folder:
        graph = write_onnx(source.scorer, folder / MODEL_FILE, precision)
        log.info("fusions: %s", ", ".join(f"{n} {name}" for name, n in graph.fusions.items()) or "none")
        shutil.copyfile(checkpoint / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        draft = Manifest.model_construct(
            **dict(source.card),
            precision=precision,
            opset=graph.opset,
            input_names=graph.input_names,
            output_name=OUTPUT_NAME,
            golden_tolerance=limits.golden_tolerance,
            tools=versions(),
            sha256={},
        )
        _copy_reports(checkpoint, folder)
        if source.inputs.prior is not None:
            shutil.copyfile(checkpoint / PRIOR_FILE, folder / PRIOR_FILE)
        bundle = Bundle(folder, draft, (), source.inputs.prior)
        if precision == "int8":
            quantize(bundle, tokens, [g.language for g in golden], head_nodes(folder / MODEL_FILE))
        session = BundleSession.start(bundle, device=device)
        logits = session.logits(tokens)
        found = [*label_findings(draft, golden, logits), *source.inputs.findings(pairs)]
        if without_prior:
            found.append(_cost(golden, whole.logits(whole.inputs.encode(pairs)), logits))
        measured = {
            "parity": _parity(source, golden, expected, logits, limits),
            "findings": (*draft.findings, *(f"exported, dev pairs of {DEV_PAIRS_FILE}, {each}" for each in found)),
        }
        kept = [golden[i].model_copy(update={"logit": float(logits[i])}) for i in _every_language(golden)]
        sealed = write_bundle_files(folder, Manifest.model_validate(dict(draft) | measured), kept)
        replace(session, bundle=Bundle.open(folder)).test()  # hashes and golden pairs, as the service does
    for finding in sealed.findings:
        log.warning("%s: %s", out, finding)
    return sealed


def _parity(source: Checkpoint, golden: list[Golden], expected: Logits, logits: Logits, limits: Limits) -> Parity:
    """Compare the bundle's logits [N] with the checkpoint's (`expected`). Raises ParityError past the limits."""
    card, labels, languages = source.card, [g.label for g in golden], [g.language for g in golden]
    before, after = card.scores(expected, languages), card.scores(logits, languages)
    differences = np.abs(logits - expected)
    parity = Parity(
        pairs=len(golden),
        languages=tuple(sorted(set(languages))),
        max_logit_difference=float(differences.max()),
        max_score_difference=float(np.abs(after - before).max()),
        f1_difference=f1(labels, card.labels(after, languages)) - f1(labels, card.labels(before, languages)),
        max_logit_difference_allowed=limits.max_logit_difference,
        f1_difference_allowed=limits.max_f1_difference,
    )
    if not parity.max_logit_difference <= limits.max_logit_difference:  # also catches NaN
        worst = int(differences.argmax())
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


def _cost(golden: list[Golden], before: Logits, after: Logits) -> str:
    """Return the finding of a model without its category prior, by its logits [N] with and without."""
    areas = [auc([g.label for g in golden], logits) for logits in (after, before)]
    measured = ", ".join("none (one class)" if area is None else f"{area:.3f}" for area in areas)
    return (
        f"without the category prior: AUC on {len(golden)} pairs, without and with it: {measured}; thresholds, "
        "calibration and metrics of the card are those with it: measure again by `relevance evaluate`"
    )


def _copy_reports(checkpoint: Path, folder: Path) -> None:
    """Copy the checkpoint's reports. Raises CheckpointError for a name that no report has, or one that is too large."""
    for file in report_files(checkpoint):
        source = checkpoint / file
        if not is_report(file):
            raise CheckpointError(f"checkpoint {checkpoint}: report {source.name!r}: expected a name of {EXPECTED}")
        if (size := source.stat().st_size) > MAX_REPORT_BYTES:
            raise CheckpointError(
                f"checkpoint {checkpoint}: {file} has {size} bytes, expected {MAX_REPORT_BYTES} at most"
            )
        (folder / REPORTS_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(source, folder / file)


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
    """Return the positions of a few pairs of each language, half of either label where there are enough."""
    chosen: list[int] = []
    for language in sorted({g.language for g in golden}):
        for label in (1, 0):
            places = [i for i, g in enumerate(golden) if g.language == language and g.label == label]
            chosen += places[: GOLDEN_A_LANGUAGE // 2]
    return chosen
