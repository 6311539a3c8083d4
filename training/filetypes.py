"""JSON lines, CSV, TSV and Parquet as one stream of numbered records. Knows nothing of what a record must hold."""

import codecs
import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from relevance.errors import InputError
from training.fields import Fields
from training.rows import WHOLE_ROW, Problem, listed, shown

PARQUET_BATCH_ROWS = 4096


class Record(NamedTuple):
    """One row as the file has it: its number, its values by column or what keeps them from being read, and its text."""

    number: int
    content: dict[str, Any] | Problem
    raw: str | None  # None: made from the content where it is needed


class _Line(NamedTuple):
    number: int
    text: str  # bytes that are not UTF-8 stand in it as surrogates
    problem: Problem | None


def _lines(path: Path) -> Iterator[_Line]:
    """Yield the lines of a text file, split at line feeds only: U+2028 and its like belong to the text."""
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            start = offset
            offset += len(line)
            if number == 1:
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError(f"{path}: is UTF-16; expected UTF-8")
                if line.startswith(codecs.BOM_UTF8):
                    line = line[len(codecs.BOM_UTF8) :]
                    start += len(codecs.BOM_UTF8)
            try:
                text, problem = line.decode(), None
            except UnicodeDecodeError as error:
                found = f"byte 0x{line[error.start]:02x} at offset {start + error.start} of the file"
                text, problem = line.decode(errors="surrogateescape"), Problem("bad UTF-8", WHOLE_ROW, found, "UTF-8")
            yield _Line(number, text, problem)


def _json_records(path: Path, fields: Fields) -> Iterator[Record]:
    for number, text, problem in _lines(path):
        if problem:
            yield Record(number, problem, text)
        elif text.strip():
            yield Record(number, _json_object(text), text)


def _json_object(text: str) -> dict[str, Any] | Problem:
    text = text.strip()
    try:
        value = json.loads(text)
    # json raises a plain ValueError for a number of too many digits.
    except (ValueError, RecursionError) as error:
        fault = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        return Problem("malformed JSON", WHOLE_ROW, text, f"one JSON object a line ({fault})")
    if isinstance(value, dict):
        return value
    return Problem("not an object", WHOLE_ROW, value, "one JSON object a line")


class _TableLines:
    """Lines for `csv.reader`. Remembers those taken for a row and takes them back, so that a bad row costs no other."""

    def __init__(self, path: Path) -> None:
        self._fresh = _lines(path)
        self._returned: deque[_Line] = deque()
        self.taken: list[_Line] = []

    def __iter__(self) -> "_TableLines":
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._fresh)
        self.taken.append(line)
        return line.text

    def give_back_all_but_first(self) -> None:
        self._returned.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _table_records(path: Path, fields: Fields, delimiter: str) -> Iterator[Record]:
    lines = _TableLines(path)
    rows = _table_rows(lines, delimiter)
    header = next(rows, None)
    if header is None:
        return
    if isinstance(header, Problem):
        raise InputError(f"{path}: the header has {shown(header.value)}; expected {header.expected}")
    header = [name.strip() for name in header]
    fields.check_header(path, header)
    for cells in rows:
        content = cells if isinstance(cells, Problem) else _named_cells(header, cells)
        if isinstance(content, Problem):
            lines.give_back_all_but_first()
        yield Record(lines.taken[0].number, content, "".join(line.text for line in lines.taken))


def _table_rows(lines: "_TableLines", delimiter: str) -> Iterator[list[str] | Problem]:
    # Strict, because a stray quote would else take the rows after it into one cell without a word.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            text = lines.taken[0].text.rstrip("\r\n")
            yield Problem("malformed row", WHOLE_ROW, text, f"cells with their quotes in pairs ({error})")
            continue
        broken = next((line.problem for line in lines.taken if line.problem), None)
        if broken:
            yield broken
        elif len(cells) > 1 or any(cell.strip() for cell in cells):
            yield cells


def _named_cells(header: list[str], cells: list[str]) -> dict[str, Any] | Problem:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    return Problem("wrong number of cells", WHOLE_ROW, len(cells), f"{len(header)} cells, as in the header")


def _parquet_records(path: Path, fields: Fields) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            fields.check_header(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for content in _batch_rows(batch):
                    number += 1
                    yield Record(number, content, str(content.value) if isinstance(content, Problem) else None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read after row {number} ({error}); expected a Parquet file") from error


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | Problem]:
    try:
        yield from batch.to_pylist()
    # Parquet strings are not checked when written, and one bad value fails its whole batch.
    except ValueError:
        for index in range(batch.num_rows):
            yield _single_row(batch, index)


def _single_row(batch: Any, index: int) -> dict[str, Any] | Problem:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[index].as_py()
        except UnicodeDecodeError as error:
            return Problem(
                "bad UTF-8", name, error.object.decode(errors="backslashreplace"), f"UTF-8 (byte {error.start} is not)"
            )
        except ValueError as error:
            return Problem("unreadable value", name, str(column[index]), f"a value that Python can hold ({error})")
    return row


_READERS: dict[str, Callable[[Path, Fields], Iterator[Record]]] = {
    ".txt": _json_records,
    ".jsonl": _json_records,
    ".csv": partial(_table_records, delimiter=","),
    ".tsv": partial(_table_records, delimiter="\t"),
    ".parquet": _parquet_records,
}


def reader_of(path: Path) -> Callable[[Path, Fields], Iterator[Record]]:
    """Return the reader for the file's type. InputError when it cannot be opened or its type is unknown."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown file type {path.suffix!r}; expected one of {listed(_READERS)}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    return reader
