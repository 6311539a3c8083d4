"""Decode the lines of a text file. Each has its number and, if its bytes do not fit the encoding, a problem.

Knows encodings; knows nothing of the content of a line.
"""

import codecs
import io
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, count, repeat
from typing import NamedTuple

from relevance.errors import ConfigError, InputError
from training.data.files.parts import MAGIC, Part
from training.data.rows import WHOLE_ROW, Problem

UTF8 = "utf-8"
BLOCK_BYTES = 1 << 20  # of lines that are read and decoded together
# UTF-32 first: its marks begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_MAGIC = {b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip (or a spreadsheet)"}  # that are not read
NAME_IT = "or the name of the encoding, for example --encoding latin-1"


class Line(NamedTuple):
    """A line with its line break. Bytes that cannot be decoded are surrogates in `text`."""

    number: int
    text: str
    problem: Problem | None


def checked_encoding(name: str) -> str:
    """Return Python's name of a text encoding. ConfigError if there is no such encoding."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # fails for codecs such as base64, which do not encode text
    except LookupError:
        raise ConfigError(f"--encoding {name!r}: no such encoding; expected one as utf-16 or latin-1") from None
    return found.name


def lines_of(part: Part, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file one by one, as `line_blocks` reads them and with its errors."""
    return chain.from_iterable(line_blocks(part, encoding))


def line_blocks(part: Part, encoding: str | None = None) -> Iterator[list[Line]]:
    """Yield the lines of a file, split at line feeds only: other separators such as U+2028 are part of the text.

    A list holds about a MiB of lines. A byte order mark is removed. It sets the encoding if `encoding` is None; the
    default is UTF-8. InputError if the file cannot be read, if UTF-16 or UTF-32 is truncated, or if neither a mark nor
    `encoding` tells it.
    """
    with part.open() as stream:
        start = stream.peek(8)
        _check_start(part, start)
        mark, marked = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", UTF8))
        chosen = encoding or marked
        if "\n".encode(chosen.removesuffix("-sig")) != b"\n":
            yield list(_wide_lines(part, stream.read(), chosen))
            return
        stream.read(len(mark) if marked == UTF8 else 0)
        number, offset = 1, len(mark)
        while lines := stream.readlines(BLOCK_BYTES):
            if number == 1:
                _check_first_line(part, lines[0], chosen)
            yield _narrow_lines(lines, number, offset, chosen)
            number += len(lines)
            offset += sum(map(len, lines))


def _check_start(part: Part, start: bytes) -> None:
    """Raise InputError for compressed data under the name of a text file."""
    for magic, end in MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{part.name}: holds compressed data; expected text, or a name that ends in {end}")
    for magic, kind in _OTHER_MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{part.name}: holds {kind} data; expected text, as it is or as .gz or .zst")


def _check_first_line(part: Part, line: bytes, encoding: str) -> None:
    if b"\0" in line:
        raise InputError(
            f"{part.name}: line 1 holds zero bytes: the file is UTF-16, or not a text file; expected "
            f"{_name(encoding)}, or the name of the encoding, for example --encoding utf-16-le"
        )
    if not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
        raise InputError(
            f"{part.name}: its line breaks are carriage returns alone; expected line feeds, as "
            "`tr '\\r' '\\n' < FILE` writes them"
        )


def _narrow_lines(lines: Sequence[bytes], number: int, offset: int, encoding: str) -> list[Line]:
    """Return lines of an encoding in which a line feed is one byte; `number` and `offset` are those of the first."""
    try:
        texts = [line.decode(encoding) for line in lines]
    except UnicodeDecodeError:
        starts = accumulate(map(len, lines), initial=offset)
        return [_narrow_line(*each, encoding) for each in zip(lines, count(number), starts, strict=False)]
    return list(map(Line, count(number), texts, repeat(None)))


def _narrow_line(line: bytes, number: int, offset: int, encoding: str) -> Line:
    """Return a line. A bad byte spoils only its own line."""
    try:
        return Line(number, line.decode(encoding), None)
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} of the file"
        text = line.decode(errors="surrogateescape")
        return Line(number, text, Problem(f"bad {_name(encoding)}", WHOLE_ROW, found, f"{_name(encoding)}, {NAME_IT}"))


def _name(encoding: str) -> str:
    return encoding.removesuffix("-sig").upper() if encoding.startswith(UTF8) else encoding


def _wide_lines(part: Part, content: bytes, encoding: str) -> Iterator[Line]:
    """Yield the lines of UTF-16 or UTF-32. These are decoded as a whole: nothing after a bad byte can be trusted."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, errors="ignore").count("\n") + 1
        raise InputError(
            f"{part.name}: line {line}: bytes at offset {error.start} of the file are not {encoding} ({error.reason}); "
            f"expected {encoding}, {NAME_IT}"
        ) from None
    for number, line in enumerate(io.StringIO(text.removeprefix("\ufeff"), newline="\n"), 1):
        yield Line(number, line, None)
