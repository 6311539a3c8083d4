"""Read JSON, CSV, TSV and Parquet as one stream of numbered records. Knows nothing of the fields of a record."""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from relevance.errors import InputError
from training.data.fields import Fields
from training.data.files.lines import Line, line_blocks, lines_of
from training.data.files.parts import DELIMITERS, PARQUET, Part
from training.data.labels.grades import label_of
from training.data.rows import WHOLE_ROW, Problem, shown

# Characters in one cell. Without a limit, an unclosed quote would read the rest of the file into memory.
LARGEST_CELL = 16 * 2**20
_OTHER_DELIMITERS = ",;\t|"
_GAP = re.compile(r"[\s,]*")
_BLOCK_ROWS = 1024  # of tables and arrays, which are read one row at a time
_decoded = json.JSONDecoder().raw_decode


class Record(NamedTuple):
    """One row of a file: its number, its values by column (or the problem that prevents reading them), and its text."""

    number: int
    content: dict[str, Any] | Problem
    raw: str | None  # None: the reader of the record builds it from the content


def records_of(part: Part, fields: Fields) -> Iterator[Record]:
    """Yield the records of a file one by one, as `record_blocks` reads them and with its errors."""
    return chain.from_iterable(record_blocks(part, fields))


def record_blocks(part: Part, fields: Fields) -> Iterator[list[Record]]:
    """Yield the records of a file, some thousand at a time, in order.

    InputError if the file is truncated, or if its header does not fit the fields.
    """
    if part.suffix == PARQUET:
        from training.data.files.parquet import parquet_blocks

        for number, contents in parquet_blocks(part, fields):
            yield [
                Record(row, content, str(content.value) if isinstance(content, Problem) else None)
                for row, content in enumerate(contents, number)
            ]
    elif part.suffix in DELIMITERS:
        yield from _blocks(_table_records(part, lines_of(part, fields.reading.encoding), fields))
    else:
        yield from _json_blocks(part, line_blocks(part, fields.reading.encoding))


def _blocks(records: Iterator[Record]) -> Iterator[list[Record]]:
    while block := list(islice(records, _BLOCK_ROWS)):
        yield block


def _json_blocks(part: Part, blocks: Iterator[list[Line]]) -> Iterator[list[Record]]:
    is_first = True
    for block in blocks:
        filled = [line for line in block if line.text.strip()]
        if is_first and filled:
            is_first = False
            if filled[0].text.lstrip().startswith("[") and filled[0].problem is None:
                rest = chain(block[block.index(filled[0]) + 1 :], chain.from_iterable(blocks))
                yield from _blocks(_array_records(part, filled[0].text + "".join(line.text for line in rest)))
                return
        yield [Record(number, problem or _json_object(text), text) for number, text, problem in filled]


def _json_object(text: str) -> dict[str, Any] | Problem:
    try:
        value, end = _decoded(text)  # the common line: an object and a line feed
        if text[end:] in ("\n", "\r\n", ""):
            return _as_object(value)
    except (ValueError, RecursionError):
        pass  # white space before the object, or a fault that is named below
    text = text.strip()
    try:
        value = json.loads(text)
    # json raises a plain ValueError for a number of too many digits.
    except (ValueError, RecursionError) as error:
        fault = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        expected = "one JSON object a line"
        if text in ("{", "}") or text.endswith((",", "{", "[")):
            expected += "; `jq -c . FILE` writes each object on one line"
        return Problem("malformed JSON", WHOLE_ROW, text, f"{expected} ({fault})")
    return _as_object(value)


def _as_object(value: Any) -> dict[str, Any] | Problem:
    return value if isinstance(value, dict) else Problem("not an object", WHOLE_ROW, value, "one JSON object a row")


def _array_records(part: Part, text: str) -> Iterator[Record]:
    """Yield the objects of one JSON array, numbered from 1. Line breaks do not matter."""
    decoder = json.JSONDecoder()
    at, number = _GAP.match(text, text.index("[") + 1).end(), 0  # type: ignore[union-attr]
    try:
        while not text.startswith("]", at):
            value, end = decoder.raw_decode(text, at)
            number += 1
            yield Record(number, _as_object(value), text[at:end])
            at = _GAP.match(text, end).end()  # type: ignore[union-attr]
        if rest := text[at + 1 :].strip():
            raise ValueError(f"then comes {shown(rest)}")
    except (ValueError, RecursionError) as error:
        fault = str(error) or "too deep"
        raise InputError(
            f"{part.name}: the JSON array is invalid after {number} elements ({fault}); expected an array of objects, "
            "or one JSON object a line"
        ) from None


class _TableLines:
    """Lines for `csv.reader`. The lines of a bad row can be given back, so that they are read again as other rows."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._fresh = lines
        self._returned: deque[Line] = deque()
        self.taken: list[Line] = []

    def __iter__(self) -> "_TableLines":
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._fresh)
        self.taken.append(line)
        return line.text

    def give_back(self, kept: int) -> None:
        """Give back all lines of the current row except the first `kept`."""
        self._returned.extendleft(reversed(self.taken[kept:]))
        del self.taken[kept:]


def _table_records(part: Part, source: Iterator[Line], fields: Fields) -> Iterator[Record]:
    reading = fields.reading
    quotes = part.suffix == ".csv" if reading.quotes is None else reading.quotes
    lines = _TableLines(source)
    delimiter = reading.delimiter or _delimiter(lines, DELIMITERS[part.suffix], quotes)
    rows = _table_rows(lines, delimiter, quotes)
    header = next(rows, None)
    if header is None:
        return
    if isinstance(header, Problem):
        raise InputError(f"{part.name}: the header has {shown(header.value)}; expected {header.expected}")
    header = [name.strip() for name in header]
    fields.check_header(part.name, header)
    label = next((n for n, name in enumerate(header) if fields.is_label(name, header)), None)
    for cells in rows:
        content = cells if isinstance(cells, Problem) else _named_cells(header, cells)
        if len(lines.taken) > 1 and isinstance(content, dict):
            content = _swallowed(lines.taken, list(content.values()), delimiter, label) or content
        if isinstance(content, Problem):
            lines.give_back(1)
        yield Record(lines.taken[0].number, content, "".join(line.text for line in lines.taken))


def _delimiter(lines: _TableLines, usual: str, quotes: bool) -> str:
    """Detect the delimiter in the first line: `usual` if it occurs, else the most frequent other one.

    A first line `sep=;`, which Excel writes, names the delimiter and is not a row.
    """
    first = next(lines, "")
    if stated := re.fullmatch(r"sep=(.)\s*", first):
        return stated[1]
    lines.give_back(0)
    text = re.sub(r'"[^"]*"', "", first) if quotes else first
    return usual if usual in text else max(_OTHER_DELIMITERS, key=lambda each: (text.count(each), each == usual))


def _table_rows(lines: _TableLines, delimiter: str, quotes: bool) -> Iterator[list[str] | Problem]:
    csv.field_size_limit(LARGEST_CELL)
    # Strict: otherwise a stray quote would silently merge the rows after it into one cell.
    quoted = csv.reader(lines, delimiter=delimiter, strict=True)
    reader = quoted if quotes else (text.rstrip("\r\n").split(delimiter) for text in lines)
    while True:
        lines.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            text = lines.taken[0].text.rstrip("\r\n")
            yield Problem("malformed row", WHOLE_ROW, text, _expected_quotes(str(error)))
            continue
        broken = next((line.problem for line in lines.taken if line.problem), None)
        if broken:
            yield broken
        elif len(cells) > 1 or any(cell.strip() for cell in cells):
            yield cells


def _expected_quotes(fault: str) -> str:
    if "field limit" in fault:
        return (
            f"cells of at most {LARGEST_CELL // 2**20} MiB; is a quote not closed? (--no-quotes reads quotes as text)"
        )
    return f"cells with their quotes in pairs ({fault}); --no-quotes reads quotes as text"


def _named_cells(header: list[str], cells: list[str]) -> dict[str, Any] | Problem:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    return Problem("wrong number of cells", WHOLE_ROW, len(cells), f"{len(header)} cells, as in the header")


def _swallowed(taken: list[Line], cells: list[str], delimiter: str, label: int | None) -> Problem | None:
    """Return the problem if a cell spans lines that are rows of their own. A stray quote merges rows like this.

    Lines are rows if each has as many cells as the header, and a valid label in the label column.
    """
    texts = [cell if "\n" in cell else cell.replace(delimiter, " ") for cell in cells]
    rows = [text.split(delimiter) for text in delimiter.join(texts).split("\n")]
    if any(len(row) != len(cells) or (label is not None and label_of(row[label]) is None) for row in rows):
        return None
    where = f"lines {taken[0].number} to {taken[-1].number}"
    return Problem(
        "cell over several rows",
        WHOLE_ROW,
        "".join(line.text for line in taken).rstrip("\r\n"),
        f"one row on each line: a quote merges {where} into one cell; --no-quotes reads quotes as text",
    )
