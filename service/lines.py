"""Lines out of a stream of bytes, whatever pieces it comes in; never more than one line is held."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, counted from 1; of one that is `too_long` only the start."""

    number: int
    content: bytes
    too_long: bool = False


async def lines_of(stream: AsyncIterator[bytes], limit: int = LINE_BYTES) -> AsyncIterator[Line]:
    """Yield the lines of a stream that are not blank; what exceeds `limit` bytes of a line is skipped."""
    number, rest, too_long = 1, b"", False
    async for piece in stream:
        *whole, last = piece.split(b"\n")
        for end in whole:
            content = rest + end
            if content.strip():
                yield Line(number, content[:limit], too_long or len(content) > limit)
            number, rest, too_long = number + 1, b"", False
        rest += last
        if len(rest) > limit:
            rest, too_long = rest[:limit], True
    if rest.strip():
        yield Line(number, rest, too_long)
