"""Tab-separated data files, read whole: every fault of every file is found before any is reported.

Knows lines, columns and cells; knows nothing of what a shop is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path

from relevance.errors import InputError

SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its file, its number as an editor shows it (the header is 1) and its cells by column."""

    file: str
    number: int
    cells: dict[str, str]


@dataclass
class Faults:
    """Everything wrong with the files read so far, as printable lines."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: Line, column: str, expected: str, value: str | None = None) -> None:
        """Note that a cell (or `value`, a part of it) is not as expected."""
        found = line.cells[column] if value is None else value
        self.lines.append(f"{line.file} line {line.number}: {column} = {found!r}; expected {expected}")

    def raise_if_any(self) -> None:
        """Raise one InputError that names every fault, if there are any."""
        if self.lines:
            raise InputError("\n".join([f"{len(self.lines)} faults in the sample's data files", *self.lines]))


def read_table(file: Path | Traversable, columns: Sequence[str], faults: Faults) -> Iterator[Line]:
    """Yield the lines of a UTF-8 table that have one filled cell a column; the others go to `faults`.

    A file that cannot be read, is not UTF-8 or has another header yields nothing.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.lines.append(f"{file.name}: cannot be read ({error}); expected a file in UTF-8")
        return
    header, *lines = text.removesuffix("\n").split("\n")
    if header.split("\t") != list(columns):
        expected = "\\t".join(columns)
        faults.lines.append(f"{file.name} line 1: header = {header!r}; expected '{expected}'")
        return
    for number, content in enumerate(lines, 2):
        cells = content.split("\t")
        if len(cells) != len(columns):
            expected = f"{len(columns)} columns, found {len(cells)}"
            faults.lines.append(f"{file.name} line {number}: (line) = {content[:80]!r}; expected {expected}")
            continue
        line = Line(file.name, number, dict(zip(columns, cells, strict=True)))
        blank = [column for column in columns if not line.cells[column].strip()]
        for column in blank:
            faults.add(line, column, "text")
        if not blank:
            yield line


def first_cells(file: Path | Traversable) -> list[str]:
    """Return the first cell of every line, good or bad, so that a fault elsewhere in a line makes no further ones."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.split("\t")[0] for line in lines[1:] if line]


def parts(line: Line, column: str, faults: Faults) -> tuple[str, ...]:
    """Return the parts of a cell between bars; an empty or padded part is a fault and is left out."""
    found = line.cells[column].split(SEPARATOR)
    good = tuple(part for part in found if part and part == " ".join(part.split()))
    if len(good) < len(found):
        faults.add(line, column, f"texts between {SEPARATOR!r} with no spare space and none of them empty")
    return good
