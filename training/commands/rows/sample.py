"""The command `sample`."""

from pathlib import Path
from typing import Annotated

import typer

from relevance.storage.outputs import check_outputs
from training.commands.options import OverwriteOption, SeedOption


def sample(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    seed: SeedOption = 0,
    scale: Annotated[float, typer.Option(help="Multiplies the number of rows.", min=0.05, max=10)] = 1.0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the embedded SYNTHETIC sample: QC and QI rows of a hand-written mini-shop in 13 languages."""
    from training.sample.generate import write_sample

    check_outputs([out], overwrite=overwrite)
    for name, rows in write_sample(out, seed=seed, scale=scale).items():
        print(f"{out / name}: {rows} rows")
