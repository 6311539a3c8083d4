"""The lines of a text file, decoded: each with its number, and with its fault where its bytes are of another encoding.

Knows encodings; knows nothing of what a line holds.
"""

import codecs
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relevance.errors import ConfigError, InputError
from training.data.files.parts import Part
from training.data.rows import WHOLE_ROW, Problem

UTF8 = "utf-8"
# The marks of UTF-32 begin like those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NAME_IT = "or its encoding named, as in --encoding latin-1"


class Line(NamedTuple):
    """A line with its end. Bytes that cannot be decoded stand in `text` as surrogates."""

    number: int
    text: str
    problem: Problem | None


def checked_encoding(name: str) -> str:
    """Return Python's name of a text encoding. ConfigError where there is no such encoding."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # not the likes of base64, which are no encodings of text
    except LookupError:
        raise ConfigError(f"--encoding {name!r}: no such encoding; expected one as utf-16 or latin-1") from None
    return found.name


def lines_of(part: Part, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file, split at line feeds only: U+2028 and its like belong to the text.

    A byte order mark is left out, and says the encoding where `encoding` does not; without either it is UTF-8.
    InputError where the file cannot be read, or is UTF-16 or UTF-32 that breaks off or does not say so.
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
    """Yield the lines of an encoding that writes a line feed as one byte, so that a bad byte costs one line."""
    name = encoding.removesuffix("-sig").upper() if encoding.startswith(UTF8) else encoding
    for number, line in enumerate(stream, 1):
        if number == 1 and b"\0" in line:
            raise InputError(
                f"{part.name}: line 1 holds zero bytes, as UTF-16 does and other files that are no text; expected "
                f"{name}, or the encoding named, as in --encoding utf-16-le"
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
    """Yield the lines of UTF-16 or UTF-32, which are decoded whole: after a bad byte nothing is sure."""
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
