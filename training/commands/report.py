"""The command `relevance data report`: figures of labelled files as an HTML page, or as JSON."""

from pathlib import Path
from typing import Annotated

import typer

from relevance.errors import InputError
from relevance.outputs import STANDARD, write_text
from relevance.tasks import Task
from training.data.files.reading import AS_IT_COMES, JsonOption, OverwriteOption, ReadOptions, reads_rows
from training.data.files.writers import check_ending, check_files


@reads_rows
def report(
    files: Annotated[list[Path], typer.Argument(help="Files of labelled pairs; several are also compared for leaks.")],
    task: Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")],
    reading: ReadOptions = AS_IT_COMES,
    out: Annotated[Path | None, typer.Option(help="The page to make; report.html here unless --json.")] = None,
    tags: Annotated[bool, typer.Option("--tags/--no-tags", help="Judge language tags by detection.")] = True,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Report on files of pairs: labels, lengths, duplicates, leaks, language tags, scripts, feature density."""
    from training.data.dataset import read_pairs
    from training.reports.measures import measure

    page = out if out is not None or as_json else Path("report.html")
    check_files([], files, others=[page], overwrite=overwrite)
    check_ending(page, ".html", ".htm")
    rows = {name: read_pairs(file, task, reading=reading).rows for name, file in _named(files)}
    found = measure(rows, task, tags=tags)
    if page is not None:
        from training.reports.data_page import render

        write_text(page, render(found))
    print(found.model_dump_json() if as_json else f"{page}: {sum(file.rows for file in found.files):,} rows")


def _named(files: list[Path]) -> list[tuple[str, Path]]:
    """Name each file by as much of the end of its path as tells it from the others."""
    paths = [file if file == STANDARD else file.resolve() for file in files]
    if len(set(paths)) < len(paths):
        raise InputError(f"files {', '.join(map(str, files))}: one is given twice; expected different files")
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return [("/".join(path.parts[-parts:]), path) for path in paths]
