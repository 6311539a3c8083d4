"""From a checkpoint to a bundle: export, fuse, reduce, compare with the checkpoint, pack. Made whole or not at all."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from export.checkpoint import Checkpoint
from export.int8.quantizing import findings, quantize
from export.onnx import head_nodes, versions, write_onnx
from export.tracing import OUTPUT_NAME
from export.verifying import Limits, every_language, label_findings, parity
from relevance.evaluation.metrics import auc
from relevance.model.bundle import MODEL_FILE, Bundle, Golden, Manifest, Precision, write_bundle_files
from relevance.model.card import DEV_PAIRS_FILE, TOKENIZER_FILE
from relevance.model.prior import PRIOR_FILE
from relevance.model.session import BundleSession, Device, Logits
from relevance.storage.files import whole_folder
from relevance.storage.locks import locks_output
from relevance.storage.outputs import check_outputs

log = logging.getLogger(__name__)

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
    golden = source.dev_pairs()
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
        source.copy_reports(folder)
        if source.inputs.prior is not None:
            shutil.copyfile(checkpoint / PRIOR_FILE, folder / PRIOR_FILE)
        bundle = Bundle(folder, draft, (), source.inputs.prior)
        int8 = None
        if precision == "int8":
            int8 = quantize(bundle, tokens, [g.language for g in golden], head_nodes(folder / MODEL_FILE))
        session = BundleSession.start(bundle, device=device)
        logits = session.logits(tokens)
        found = [*label_findings(draft, golden, logits), *source.inputs.findings(pairs), *findings(int8)]
        if without_prior:
            found.append(_cost(golden, whole.logits(whole.inputs.encode(pairs)), logits))
        measured = {
            "parity": parity(source.folder, source.card, golden, (expected, logits), limits),
            "int8": int8,
            "findings": (*draft.findings, *(f"exported, dev pairs of {DEV_PAIRS_FILE}, {each}" for each in found)),
        }
        kept = [golden[i].model_copy(update={"logit": float(logits[i])}) for i in every_language(golden)]
        sealed = write_bundle_files(folder, Manifest.model_validate(dict(draft) | measured), kept)
        replace(session, bundle=Bundle.open(folder)).test()  # hashes and golden pairs, as the service does
    for finding in sealed.findings:
        log.warning("%s: %s", out, finding)
    return sealed


def _cost(golden: list[Golden], before: Logits, after: Logits) -> str:
    """Return the finding of a model without its category prior, by its logits [N] with and without."""
    areas = [auc([g.label for g in golden], logits) for logits in (after, before)]
    measured = ", ".join("none (one class)" if area is None else f"{area:.3f}" for area in areas)
    return (
        f"without the category prior: AUC on {len(golden)} pairs, without and with it: {measured}; thresholds, "
        "calibration and metrics of the card are those with it: measure again by `relevance evaluate`"
    )
