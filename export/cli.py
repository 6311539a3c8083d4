"""The commands of `export`: `relevance export`, `relevance cascade` and `relevance verify`."""

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relevance.errors import ConfigError

if TYPE_CHECKING:
    from relevance.model.bundle import Manifest, Precision

log = logging.getLogger(__name__)

app = typer.Typer()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `relevance train`.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle folder to make; appears whole or not at all.")],
    kind: Annotated[
        Literal["onnx", "safetensors"],
        typer.Option(help="onnx for this project's service and scorers, safetensors for vLLM."),
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        typer.Option(help="fp32 anywhere, fp16 for GPU, int8 for CPU (onnx), bf16 for GPU (safetensors)."),
    ] = "fp32",
    max_logit_difference: Annotated[
        float | None,
        typer.Option(help="Largest difference of a logit from the checkpoint's; default by precision."),
    ] = None,
    max_f1_difference: Annotated[
        float | None, typer.Option(help="Largest change of F1 on dev pairs; default by precision.")
    ] = None,
    without_prior: Annotated[
        bool,
        typer.Option(
            "--without-prior", help="Leave out the category prior: for catalogues whose categories change. Costs AUC."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Export a checkpoint to a bundle, checked against the checkpoint in every language of its dev set."""
    given = {"max_logit_difference": max_logit_difference, "max_f1_difference": max_f1_difference}
    changed = {name: value for name, value in given.items() if value is not None}
    if kind == "safetensors":
        manifest = _export_safetensors(checkpoint, bundle, precision, changed, overwrite, without_prior)
    else:
        manifest = _export_onnx(checkpoint, bundle, precision, changed, overwrite, without_prior)
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return
    parity = manifest.parity
    print(
        f"{bundle}: {manifest.task} {manifest.name} {manifest.version} {precision}, largest logit "
        f"difference {parity.max_logit_difference:.2g} and F1 difference {parity.f1_difference:+.4f} "
        f"over {parity.pairs} dev pairs in {len(parity.languages)} languages"
    )
    if (int8 := manifest.int8) is not None:
        print(
            f"  99 % of {int8.checked_pairs} pairs' scores move by {int8.score_shift_p99:.4f} or less; in fp32 stay "
            f"{len(int8.in_fp32)} of {int8.products} products{': ' if int8.in_fp32 else ''}{', '.join(int8.in_fp32)}"
        )
    if kind == "safetensors":
        from export.vllm.folder import serve_command

        template = manifest.prompt is not None
        print(f"  {serve_command(manifest, precision, str(bundle), template=template)}")


def _export_onnx(
    checkpoint: Path, bundle: Path, precision: "Precision", changed: dict[str, float], overwrite: bool, without: bool
) -> "Manifest":
    from export.exporting import DEFAULT_LIMITS, export_bundle

    if precision not in DEFAULT_LIMITS:
        expected = ", ".join(DEFAULT_LIMITS)
        raise ConfigError(f"--precision {precision}: expected one of {expected}, or --kind safetensors")
    limits = replace(DEFAULT_LIMITS[precision], **changed)
    return export_bundle(checkpoint, bundle, precision, limits, overwrite=overwrite, without_prior=without)


def _export_safetensors(
    checkpoint: Path, bundle: Path, precision: "Precision", changed: dict[str, float], overwrite: bool, without: bool
) -> "Manifest":
    from export.vllm.folder import LIMITS, export_safetensors

    if without:
        raise ConfigError("--without-prior: no model of --kind safetensors reads one; expected it left out")
    limits = replace(LIMITS.get(precision, LIMITS["fp32"]), **changed)
    return export_safetensors(checkpoint, bundle, precision, limits, overwrite=overwrite)


@app.command()
def cascade(
    small: Annotated[Path, typer.Argument(help="The bundle that scores every pair.")],
    large: Annotated[Path, typer.Argument(help="The bundle that scores those again that the small one is unsure of.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle folder to make; appears whole or not at all.")],
    dev: Annotated[
        Path,
        typer.Option(help="Labelled rows that neither model was trained on: JSON lines of `relevance data clean`."),
    ],
    max_f1_loss: Annotated[
        float, typer.Option(help="Loss of F1 against the large model; as few pairs as it allows are passed on.")
    ] = 0.003,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Make one bundle of a small model and a larger one, which scores the pairs that the small one is unsure of."""
    from export.cascading import make_cascade

    manifest = make_cascade(small, large, bundle, dev, max_f1_loss, overwrite=overwrite)
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return
    summary = manifest.cascade
    chosen, apart = summary.chosen_on, summary.held_out
    print(
        f"{bundle}: {manifest.task} {manifest.name} {manifest.version}, {chosen.passed_on:.1%} of "
        f"{chosen.rows} pairs passed on, cost {summary.cost:.2f} of the large model's\n"
        f"  F1 {chosen.cascade:.4f}; small model alone {chosen.small:.4f}, large {chosen.large:.4f}\n"
        f"  held-out queries: F1 {apart.cascade:.4f}, {apart.passed_on:.1%} passed on"
    )


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a bundle as the service does when it starts: hashes, graph and golden pairs; repeat what export found."""
    from export.verifying import verify_bundle

    found = verify_bundle(bundle)
    for finding in found.findings:
        log.warning("%s: %s", bundle, finding)
    if as_json:
        print(json.dumps({"bundle": str(bundle)} | asdict(found)))
    else:
        print(f"{bundle}: intact; {found.golden_pairs} golden pairs agree within {found.worst:.2g} (logits)")
