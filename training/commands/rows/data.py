"""The commands `data check`, `data clean`, `data split` and `data report`."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.errors import InputError
from relevance.languages import chosen_languages
from relevance.storage.locks import locks_output
from relevance.storage.outputs import STANDARD, write_text
from training.cleaning.options import CleaningOptions
from training.commands.flat import Fields, flattened
from training.commands.options import (
    OUT_HELP,
    Output,
    OverwriteOption,
    PairFiles,
    Reading,
    RowsArgument,
    SeedOption,
    TaskOption,
)
from training.data.files.writers import check_ending, check_files, say

if TYPE_CHECKING:
    from training.data.rows import Row

log = logging.getLogger(__name__)

data = typer.Typer(help="Check, clean, split and describe files of labelled pairs.", no_args_is_help=True)


@data.command()
@flattened
def check(
    file: RowsArgument,
    task: TaskOption,
    reading: Reading,
    output: Output,
    unlabeled: Annotated[bool, typer.Option("--unlabeled", help="Rows may lack their label.")] = False,
    bad_rows: Annotated[
        Path | None, typer.Option(help=f"Write bad rows to this file and count the good rows. {OUT_HELP}")
    ] = None,
) -> None:
    """Read a file as training does. Report every bad row, or count rows and positives by language."""
    from training.data.dataset import scan_rows

    check_files([bad_rows], [file], overwrite=output.overwrite)
    counts: dict[str, dict[str, int]] = {}

    def see(row: "Row") -> None:
        count = counts.setdefault(row.pair.language, {"rows": 0, "positive": 0})
        count["rows"] += 1
        count["positive"] += row.label == 1

    report = scan_rows(file, task, see, reading=reading, require_labels=not unlabeled, bad_rows_file=bad_rows)
    rows = report.total - len(report.bad_rows)
    if report.bad_rows:
        log.warning("%s: %d bad rows, written to %s", file, len(report.bad_rows), bad_rows)
    if report.repeated_ids:
        some = ", ".join(report.repeated_ids[:5])
        log.warning("%s: %d ids occur in several rows (%s ...)", file, len(report.repeated_ids), some)
    lines = [f"{file}: {rows} good rows"]
    for language, count in sorted(counts.items()):
        lines.append(f"  {language:4} {count['rows']:7} rows, {count['positive']:7} positive")
    as_object = json.dumps({"file": str(file), "rows": rows, "languages": counts})
    say(as_object if output.as_json else "\n".join(lines), bad_rows)


@data.command()
@locks_output("out")
@flattened
def clean(
    file: RowsArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to make. {OUT_HELP}")],
    task: TaskOption,
    files: PairFiles,
    options: Annotated[CleaningOptions, Fields("contradictions", "tags")],
    output: Output,
) -> None:
    """Clean a file: characters, votes, language tags.

    Rows of the same query, candidate and language become one row with its votes: label_share (the training target),
    label_votes, label by majority (1 for a tie), label_weight (the mean weight of a vote).
    """
    from training.cleaning.stage import clean as cleaned
    from training.data.splits import write_pairs

    check_files([out], [file], overwrite=output.overwrite)
    read = files.store(file, task, file if out == STANDARD else out, "rows")
    rows, report = cleaned(read, task, options)
    write_pairs(out, rows, task)
    say(report.model_dump_json() if output.as_json else report.text(), out)


@dataclass(frozen=True, slots=True)
class Shares:
    """Sizes of the splits, held-out languages and seed."""

    dev: Annotated[float, typer.Option(help="Share of the rows for dev.", min=0, max=1)] = 0.1
    test: Annotated[float, typer.Option(help="Share of the rows for test.", min=0, max=1)] = 0.1
    held_out: Annotated[list[str] | None, typer.Option(help="A language that train must not see; repeat.")] = None
    seed: SeedOption = 0


@data.command()
@locks_output("out")
@flattened
def split(
    file: RowsArgument,
    out: Annotated[Path, typer.Argument(help="The folder to make: train_QC.txt and so on.")],
    task: TaskOption,
    files: PairFiles,
    shares: Shares,
    overwrite: OverwriteOption = False,
) -> None:
    """Split a file by query into train, dev and test. No query is in two of them. Stratified by language and label."""
    from relevance.storage.files import whole_folder
    from training.data.groups import iter_groups
    from training.data.splits import split_pairs, summarize, write_pairs

    check_files([], [file], others=[out], overwrite=overwrite)
    rows = files.store(file, task, out, "rows")
    fractions = {"train": round(1 - shares.dev - shares.test, 9), "dev": shares.dev, "test": shares.test}
    splits = split_pairs(
        rows,
        fractions={name: share for name, share in fractions.items() if share},
        seed=shares.seed,
        held_out_languages=chosen_languages("--held-out", shares.held_out or ()),
        groups=iter_groups(rows),
    )
    with whole_folder(out) as folder:
        for name, members in splits.items():
            write_pairs(folder / f"{name}_{task.upper()}.txt", members, task)
    for part in summarize(splits):
        languages = " ".join(f"{code} {count}" for code, count in part.languages.items())
        print(f"{part.name}: {part.rows} rows, {part.queries} queries, {part.positive_share:.1%} positive; {languages}")


@data.command()
@locks_output("out")
@flattened
def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of labelled pairs; several are also checked for leaks."),
    ],
    task: TaskOption,
    reading: Reading,
    output: Output,
    out: Annotated[
        Path | None, typer.Option(help="The page to make.", show_default="report.html, with --json none")
    ] = None,
    tags: Annotated[bool, typer.Option("--tags/--no-tags", help="Judge language tags by detection.")] = True,
) -> None:
    """Report on files of pairs: labels, lengths, duplicates, leaks, language tags, scripts, feature density."""
    from training.data.dataset import store_pairs
    from training.reports.measures import measure

    page = out if out is not None or output.as_json else Path("report.html")
    check_files([], files, others=[page], overwrite=output.overwrite)
    check_ending(page, ".html", ".htm")
    rows = {name: store_pairs(file, task, reading=reading).rows for name, file in _named(files)}
    found = measure(rows, task, tags=tags)
    if page is not None:
        from training.reports.data_page import render

        write_text(page, render(found))
    print(found.model_dump_json() if output.as_json else f"{page}: {sum(file.rows for file in found.files):,} rows")


def _named(files: list[Path]) -> list[tuple[str, Path]]:
    """Return each file with a name: the shortest end of its path that differs from the others."""
    paths = [file if file == STANDARD else file.resolve() for file in files]
    if len(set(paths)) < len(paths):
        raise InputError(f"files {', '.join(map(str, files))}: one is given twice; expected different files")
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return [("/".join(path.parts[-parts:]), path) for path in paths]
