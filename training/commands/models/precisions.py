"""The command `precisions`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import flattened
from training.commands.options import ROWS_HELP, Output, PairFiles

log = logging.getLogger(__name__)


@flattened
def precisions(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `relevance train` or `relevance import`.")],
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs, of which the first 1,000 count. {ROWS_HELP}")],
    out: Annotated[Path, typer.Argument(help="The folder to make: a bundle for each precision, and precisions.json.")],
    files: PairFiles,
    output: Output,
) -> None:
    """Export a checkpoint in each precision, measure parity, AUC, size and speed here, and recommend one.

    Tries fp32, int8, and where this machine has them bf16 (OpenVINO) and fp16 (GPU). Speed is that of one core.
    """
    from rich.console import Console

    from training.fitting.evaluation.report import card_of
    from training.scoring.precisions import compare_precisions

    rows = files.read(file, card_of(checkpoint).task, out, "rows")
    found = compare_precisions(checkpoint, out, rows, overwrite=output.overwrite)
    for name, reason in found.left_out.items():
        log.warning("%s: left out: %s", name, reason)
    if output.as_json:
        print(found.model_dump_json())
    else:
        Console(width=max(110, Console().width)).print(found.table())
