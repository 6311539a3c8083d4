"""The command `relevance score`. Parses, calls one function, reports."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from training.data.files.reading import AS_IT_COMES, ROWS_HELP, JsonOption, OverwriteOption, ReadOptions, reads_rows
from training.data.files.writers import say


@reads_rows
def score(
    bundle: Annotated[Path, typer.Argument(help="A folder written by `relevance export`.")],
    file: Annotated[Path, typer.Argument(help=f"{ROWS_HELP} Labels may be absent.")],
    out: Annotated[Path, typer.Argument(help="The file to make; its extension says which of those formats.")],
    reading: ReadOptions = AS_IT_COMES,
    submission: Annotated[
        Path | None,
        typer.Option(help="Also write predictions to this AnalytiCup zip; the other task's stay in it."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of the four added fields.")] = "",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where there is one.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the model; 0: every core allowed.", min=0)] = 0,
    max_batch_tokens: Annotated[
        int | None, typer.Option(help="Padded tokens a batch; absent: 2048 on a CPU, 16384 on a GPU.", min=1)
    ] = None,
    shard_rows: Annotated[
        int, typer.Option(help="Rows scored between two savings. Higher: less padding, more memory.", min=1)
    ] = 4096,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Go on with the good rows; write the bad ones to a file beside OUT.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a file: every field kept, plus score, label_predicted, truncated and model_version.

    A run that was interrupted goes on when the same command is given again.
    """
    from training.scoring.run import ScoreOptions, score_file

    options = ScoreOptions(
        submission=submission,
        prefix=prefix,
        device=device,
        threads=threads,
        max_batch_tokens=max_batch_tokens,
        shard_rows=shard_rows,
        skip_bad_rows=skip_bad_rows,
        overwrite=overwrite,
        reading=reading,
    )
    report = score_file(bundle, file, out, options)
    if as_json:
        say(report.model_dump_json(), out)
        return
    done = f"{out}: {report.rows:,} {report.task.upper()} pairs scored by {report.model_version} on {report.device}"
    done += f", {report.positive:,} positive, {report.truncated:,} truncated, in {report.total_seconds:.1f} s"
    if report.resumed:
        done += f"\n  {report.resumed:,} of them were scored before an interruption"
    if report.bad_rows:
        done += f"\n  {report.bad_rows:,} bad rows left out, written to {report.bad_rows_file}"
    say(done, out)
