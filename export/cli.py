"""The commands of `export`: `relevance export` and `relevance verify`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from relevance.bundle import Bundle

app = typer.Typer()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `relevance train`.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle folder to make; appears whole or not at all.")],
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="fp32 anywhere, fp16 for GPU, dynamic int8 for CPU.")
    ] = "fp32",
    max_logit_difference: Annotated[
        float | None, typer.Option(help="Refuse a bundle farther than this from its checkpoint; default by precision.")
    ] = None,
    max_f1_difference: Annotated[
        float | None, typer.Option(help="Refuse a bundle whose F1 on dev pairs moves by more; default by precision.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Fuse nothing: standard ONNX operators only, as TensorRT needs them.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Export a checkpoint to an ONNX bundle, checked against the checkpoint in every language of its dev set."""
    from dataclasses import replace

    from export.exporting import DEFAULT_LIMITS, export_bundle

    limits = DEFAULT_LIMITS[precision]
    if max_logit_difference is not None:
        limits = replace(limits, max_logit_difference=max_logit_difference)
    if max_f1_difference is not None:
        limits = replace(limits, max_f1_difference=max_f1_difference)
    manifest = export_bundle(checkpoint, bundle, precision, limits, overwrite=overwrite, plain=plain)
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return
    parity = manifest.parity
    print(
        f"{bundle}: {manifest.task} {manifest.name} {manifest.version} {precision}, largest logit "
        f"difference {parity.max_logit_difference:.2g} and F1 difference {parity.f1_difference:+.4f} "
        f"over {parity.pairs} dev pairs in {len(parity.languages)} languages"
    )


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Check a bundle: every hash, and the logits of its golden pairs."""
    from export.runner import run_onnx
    from relevance.bundle import MODEL_FILE

    opened = Bundle.open(bundle)
    manifest, tokenizer = opened.manifest, opened.tokenizer()
    tokens = tokenizer.encode_pairs(manifest.texts([g.pair for g in opened.golden]))
    logits = run_onnx(bundle / MODEL_FILE, tokenizer, tokens, gpu=manifest.precision == "fp16")
    worst = opened.check_golden(logits.tolist())
    if as_json:
        found = {"bundle": str(bundle), "version": manifest.version, "golden_pairs": len(opened.golden), "worst": worst}
        print(json.dumps(found))
    else:
        print(f"{bundle}: intact; {len(opened.golden)} golden pairs agree within {worst:.2g} (logits)")
