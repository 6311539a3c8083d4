"""The command `relevance data clean`: read a file, clean its rows, write them and the report."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from relevance.tasks import Task
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import CleaningReport
from training.data.files.reading import (
    AS_IT_COMES,
    OUT_HELP,
    ROWS_HELP,
    JsonOption,
    OverwriteOption,
    ReadOptions,
    reads_rows,
)
from training.data.files.writers import check_files, say
from training.data.votes import Contradictions

log = logging.getLogger(__name__)


@reads_rows
def clean_file(
    file: Annotated[Path, typer.Argument(help=ROWS_HELP)],
    out: Annotated[Path, typer.Argument(help=f"The file to make. {OUT_HELP}")],
    task: Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")],
    reading: ReadOptions = AS_IT_COMES,
    contradictions: Annotated[
        Contradictions, typer.Option(help="Pairs with both labels: merge, majority (ties are left out), or drop.")
    ] = Contradictions.MERGE,
    tags: Annotated[Tags, typer.Option(help="Language tags that disagree: off, report, unk, or fix.")] = Tags.UNK,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Clean a file: characters, votes, language tags.

    Rows of the same query, candidate and language become one row with its votes: label_share, label_votes, label by
    majority (1 for a tie), label_weight by agreement.
    """
    from training.cleaning.stage import clean
    from training.data.dataset import read_pairs
    from training.data.splits import write_pairs

    check_files([out], [file], overwrite=overwrite)
    options = CleaningOptions(contradictions=contradictions, tags=tags)
    rows, report = clean(read_pairs(file, task, reading=reading).rows, task, options)
    write_pairs(out, rows, task)
    say(report.model_dump_json() if as_json else "\n".join(lines(report)), out)


def lines(report: CleaningReport) -> list[str]:
    """Return the report in words, a line a fact."""
    found = [f"{report.rows_in:,} rows in, {report.rows_out:,} out"]
    found.append(f"texts changed: {report.changed_queries:,} queries, {report.changed_candidates:,} candidates")
    for name, step in report.steps.items():
        if step.queries or step.candidates:
            found.append(f"  {name}: {step.queries:,} queries, {step.candidates:,} candidates")
    votes = report.votes
    found.append(
        f"rows merged into another: {votes.merged_rows:,}; pairs with several votes: {votes.voted_pairs:,} "
        f"({votes.votes:,} votes)"
    )
    found.append(
        f"pairs with both labels: {votes.contradictory_pairs:,} ({votes.contradictory_votes:,} votes, "
        f"{votes.ties:,} ties), {votes.dropped:,} left out"
    )
    if report.tags:
        wrong = sum(report.tags.disagreements.values())
        found.append(f"rows whose language tag disagrees: {wrong:,}; changed {report.tags.changed_rows:,}")
        found += [f"  {change}: {count:,}" for change, count in report.tags.disagreements.items()]
    return found
