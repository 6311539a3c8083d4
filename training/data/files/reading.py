"""How files of rows are to be read: names of columns, encoding, delimiter, quotes, grades; and the options for it.

Every command that reads rows takes these options, by `reads_rows`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from relevance.errors import ConfigError
from training.data.files.lines import checked_encoding
from training.data.grades import Grades

_TAB = ("\\t", "tab", "\t")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file of rows; all that is absent follows from the file.

    `columns` maps names in the file to fields. `quotes` says whether cells may stand in quotes: in CSV they may, in TSV
    not. `grades` gives the labels of files whose labels are not 0 and 1.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    quotes: bool | None = None
    grades: Grades | None = None

    @classmethod
    def of(
        cls,
        column: Sequence[str] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quotes: bool | None = None,
        grades: str | None = None,
    ) -> "ReadOptions":
        """Return the options as a user writes them. ConfigError for one that cannot be."""
        if delimiter in _TAB:
            delimiter = "\t"
        elif delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ConfigError(f"--delimiter {delimiter!r}: expected one character, or tab")
        return cls(
            columns=_columns(column or ()),
            encoding=None if encoding is None else checked_encoding(encoding),
            delimiter=delimiter,
            quotes=quotes,
            grades=None if grades is None else Grades.parse(grades),
        )


AS_IT_COMES = ReadOptions()

ROWS_HELP = (
    "JSON lines (.txt, .jsonl), CSV, TSV or Parquet, also .gz or .zst; a folder or 'pattern*' of such files; or - for "
    "standard input."
)
OUT_HELP = "Its name says the format: .jsonl, .csv, .tsv or .parquet, also .gz or .zst; - is standard output."
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

_OPTIONS: dict[str, Any] = {
    "column": Annotated[
        list[str] | None, typer.Option("--column", help="NAME=FIELD: read a column of the file as a field; repeat.")
    ],
    "encoding": Annotated[str | None, typer.Option(help="Of text files, as latin-1. (UTF-8, or what a mark says.)")],
    "delimiter": Annotated[str | None, typer.Option(help="Of CSV and TSV, as ';' or tab. (Found in the header.)")],
    "quotes": Annotated[
        bool | None, typer.Option("--quotes/--no-quotes", help="Cells may stand in quotes. (CSV: yes, TSV: no.)")
    ],
    "grades": Annotated[
        str | None, typer.Option(help="Labels of grades: a mapping, E=1,S=1,C=0,I=0, or a cut, '>=2.33'.")
    ],
}


def reads_rows(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading rows; they come together as its argument `reading`."""
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "reading"]
    further = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        reading = ReadOptions.of(**{name: given.pop(name, None) for name in _OPTIONS})
        command(*arguments, **given, reading=reading)

    run.__signature__ = signature.replace(parameters=[*own, *further])  # type: ignore[attr-defined]
    run.__annotations__ = {name: kind for name, kind in command.__annotations__.items() if name != "reading"} | _OPTIONS
    return run


def _columns(options: Sequence[str]) -> dict[str, str]:
    columns = {}
    for option in options:
        name, equals, target = option.partition("=")
        if not equals or not name.strip() or not target.strip():
            raise ConfigError(f"--column {option!r}: expected NAME=FIELD, as in --column search_term=origin_query")
        columns[name.strip()] = target.strip()
    return columns
