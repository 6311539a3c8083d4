"""Splits a stream of bytes into lines. Keeps at most one line in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

LINE_BYTES = 64 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end; `number` counts from 1. Of a line that is `too_long`, `content` is only the start."""

    number: int
    content: bytes
    too_long: bool = False


async def lines_of(stream: AsyncIterator[bytes], limit: int = LINE_BYTES) -> AsyncIterator[Line]:
    """Yield the lines of a stream without short blank ones; what exceeds `limit` bytes of a line is skipped.

    A UTF-8 byte-order mark at the start of the stream is no part of the first line.
    """
    number, rest, too_long = 1, b"", False
    async for piece in stream:
        *whole, last = piece.split(b"\n")
        for end in whole:
            if line := _line(number, rest + end, too_long, limit):
                yield line
            number, rest, too_long = number + 1, b"", False
        rest += last
        if len(rest) > limit + len(BYTE_ORDER_MARK):
            rest, too_long = rest[: limit + len(BYTE_ORDER_MARK)], True
    if line := _line(number, rest, too_long, limit):
        yield line


def _line(number: int, content: bytes, too_long: bool, limit: int) -> Line | None:
    if number == 1:
        content = content.removeprefix(BYTE_ORDER_MARK)
    too_long = too_long or len(content) > limit
    return Line(number, content[:limit], too_long) if too_long or content.strip() else None
