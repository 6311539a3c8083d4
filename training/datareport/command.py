"""The command `relevance data report`: figures of labelled files as an HTML page, or as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.errors import ConfigError, InputError
from relevance.tasks import Task

if TYPE_CHECKING:
    from training.datareport.measures import DataReport


def report(
    files: Annotated[list[Path], typer.Argument(help="Files of labelled pairs; several are also compared for leaks.")],
    task: Annotated[Task, typer.Option(help="qc: query and category path; qi: query and item title.")],
    out: Annotated[Path | None, typer.Option(help="The page to make; report.html here unless --json.")] = None,
    tags: Annotated[bool, typer.Option("--tags/--no-tags", help="Judge language tags by detection.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
) -> None:
    """Report on files of pairs: labels, lengths, duplicates, leaks, language tags, scripts, feature density."""
    from training.datareport.measures import measure
    from training.dataset import read_pairs

    page = out if out is not None or as_json else Path("report.html")
    if page is not None and page.exists() and not overwrite:
        raise ConfigError(f"output {page}: exists already; expected a new file, or --overwrite")
    found = measure({name: read_pairs(file, task).rows for name, file in _named(files)}, task, tags=tags)
    if page is not None:
        _write(page, found)
    print(found.model_dump_json() if as_json else f"{page}: {sum(file.rows for file in found.files):,} rows")


def _named(files: list[Path]) -> list[tuple[str, Path]]:
    """Name each file by as much of the end of its path as tells it from the others."""
    paths = [file.resolve() for file in files]
    if len(set(paths)) < len(paths):
        raise InputError(f"files {', '.join(map(str, files))}: one is given twice; expected different files")
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return [("/".join(path.parts[-parts:]), path) for path in paths]


def _write(page: Path, found: "DataReport") -> None:
    from relevance.files import whole_file
    from training.datareport.page import render

    try:
        with whole_file(page) as beside:
            beside.write_text(render(found), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{page}: cannot be written ({error.strerror}); expected a file in an open folder") from error
