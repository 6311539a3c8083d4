"""The command `score`."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import Fields, flattened
from training.commands.options import ROWS_HELP, Output
from training.scoring.options import ScoreOptions


@flattened
def score(
    bundle: Annotated[Path, typer.Argument(help="A folder written by `relevance export`.")],
    file: Annotated[Path, typer.Argument(help=f"{ROWS_HELP} Labels may be absent.")],
    out: Annotated[Path, typer.Argument(help="The file to make; its extension sets the format.")],
    options: Annotated[
        ScoreOptions,
        Fields(
            "reading",
            "submission",
            "prefix",
            "device",
            "threads",
            "max_batch_tokens",
            "shard_rows",
            "ray",
            "actors",
            "actor_gpus",
            "skip_bad_rows",
        ),
    ],
    output: Output,
) -> None:
    """Score a file. The output has all its fields, plus score, label_predicted, truncated and model_version.

    To resume an interrupted run, repeat the command.
    """
    from training.scoring.run import score_file

    chosen = options.model_copy(update={"overwrite": output.overwrite})
    output.report(score_file(bundle, file, out, chosen), out)
