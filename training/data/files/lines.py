"""Decode the lines of a text file. Each has its number and, if its bytes do not fit the encoding, a problem.

Knows encodings; knows nothing of the content of a line.
"""

import codecs
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relevance.errors import ConfigError, InputError
from training.data.files.parts import Part
from training.data.rows import WHOLE_ROW, Problem

UTF8 = "utf-8"
# UTF-32 first: its marks begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
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
    """Yield the lines of a file, split at line feeds only: other separators such as U+2028 are part of the text.

    A byte order mark is removed. It sets the encoding if `encoding` is None; the default is UTF-8. InputError if the
    file cannot be read, if UTF-16 or UTF-32 is truncated, or if neither a mark nor `encoding` tells it.
    """
    with part.open() as stream:
        start = stream.peek(4)
        mark, marked = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", UTF8))
        chosen = encoding or marked
        if "\n".encode(chosen.removesuffix("-sig")) != b"\n":
            yield from _wide_lines(part, stream.read(), chosen)
            return
        stream.read(len(mark) if marked == UTF8 else 0)
        yield from _narrow_lines(part, stream, len(mark), chosen)


def _narrow_lines(part: Part, stream: Iterable[bytes], offset: int, encoding: str) -> Iterator[Line]:
    """Yield the lines of an encoding in which a line feed is one byte: a bad byte spoils only its own line."""
    name = encoding.removesuffix("-sig").upper() if encoding.startswith(UTF8) else encoding
    for number, line in enumerate(stream, 1):
        if number == 1 and b"\0" in line:
            raise InputError(
                f"{part.name}: line 1 holds zero bytes: the file is UTF-16, or not a text file; expected "
                f"{name}, or the name of the encoding, for example --encoding utf-16-le"
            )
        try:
            text, problem = line.decode(encoding), None
        except UnicodeDecodeError as error:
            found = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} of the file"
            text = line.decode(errors="surrogateescape")
            problem = Problem(f"bad {name}", WHOLE_ROW, found, f"{name}, {NAME_IT}")
        offset += len(line)
        yield Line(number, text, problem)


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
