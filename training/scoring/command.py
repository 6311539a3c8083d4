"""The command `relevance score`. Parses, calls one function, reports."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def score(
    bundle: Annotated[Path, typer.Argument(help="A folder written by `relevance export`.")],
    file: Annotated[Path, typer.Argument(help="JSON lines (.txt, .jsonl), CSV, TSV or Parquet; labels optional.")],
    out: Annotated[Path, typer.Argument(help="The file to make; its extension says which of those formats.")],
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
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
    )
    report = score_file(bundle, file, out, options)
    if as_json:
        print(report.model_dump_json())
        return
    done = f"{out}: {report.rows:,} {report.task.upper()} pairs scored by {report.model_version} on {report.device}"
    print(f"{done}, {report.positive:,} positive, {report.truncated:,} truncated, in {report.total_seconds:.1f} s")
    if report.resumed:
        print(f"  {report.resumed:,} of them were scored before an interruption")
    if report.bad_rows:
        print(f"  {report.bad_rows:,} bad rows left out, written to {report.bad_rows_file}")
