"""The command `demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the demo's files.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes any free one.", min=0, max=65535)] = 8080,
    models_only: Annotated[bool, typer.Option("--models-only", help="Make the bundles and serve nothing.")] = False,
) -> None:
    """Fine-tune, export and serve QC and QI on the embedded SYNTHETIC sample; the page opens before that is done.

    The untuned encoder answers first, and is replaced while the service runs. Ctrl-C loses nothing: repeat the command.
    """
    from training.demo.run import make_models, run

    if models_only:
        make_models(out)
    else:
        run(out, port)
