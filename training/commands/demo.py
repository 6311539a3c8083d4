"""The command `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from relevance.tasks import Task


def demo(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the demo's files.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes any free one.", min=0, max=65535)] = 8080,
    models_only: Annotated[bool, typer.Option("--models-only", help="Make the bundles and serve nothing.")] = False,
    part: Annotated[Task | None, typer.Option(hidden=True, help="What a process that the demo starts makes.")] = None,
    recipes: Annotated[Path | None, typer.Option(hidden=True, help="The folder of other recipes.")] = None,
) -> None:
    """Fine-tune, export and serve QC and QI on the embedded SYNTHETIC sample; the page opens before that is done.

    The untuned encoder answers first, and is replaced while the service runs. Ctrl-C loses nothing: repeat the command.
    """
    from training.demo.parts import RECIPES
    from training.demo.run import make_models, make_part, run

    chosen = recipes or RECIPES
    if part is not None:
        make_part(out, part, chosen, tuned_only=models_only)
    elif models_only:
        make_models(out, chosen)
    else:
        run(out, port, chosen)
