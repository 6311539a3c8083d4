"""The bytes of a request's body: the accepted types and codings, and reading within limits.

A body over a limit is refused before it is parsed. The rest of it is read and discarded, so that the caller reads the
answer and the connection stays usable.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from email.message import Message as Headers

from starlette.requests import Request
from starlette.types import Message, Receive

from relevance.errors import InputError
from service.api.body.outline import PIECE_BYTES, Outline
from service.errors import ClientGoneError, DeadlineError, InvalidRequestError, MediaTypeError, TooLargeError

DISCARDED_BYTES = 16 * 1024 * 1024
CODINGS = ("gzip", "x-gzip")
CHARSETS = ("utf-8", "utf8")
GZIP_BITS = 16 + zlib.MAX_WBITS


def check_json(request: Request) -> None:
    """Raise MediaTypeError unless a body is declared as JSON in UTF-8."""
    declared = request.headers.get("content-type", "")
    headers = Headers()
    headers["content-type"] = declared
    subtype = headers.get_content_subtype()
    is_json = headers.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))
    charset = str(headers.get_param("charset") or CHARSETS[0])
    if not declared or not is_json:
        raise MediaTypeError(f"Content-Type {declared[:100]!r}: expected application/json")
    if charset.lower() not in CHARSETS:
        raise MediaTypeError(f"Content-Type {declared[:100]!r}: expected charset utf-8 or none")


def check_coding(request: Request, taken: tuple[str, ...] = CODINGS) -> bool:
    """Return whether a body is compressed. Raises MediaTypeError for a coding that is not accepted."""
    declared = ", ".join(request.headers.getlist("content-encoding"))
    coding = declared.strip().lower()
    if coding in ("", "identity"):
        return False
    if coding in taken:
        return True
    expected = "gzip or none" if taken else "none"
    raise MediaTypeError(f"Content-Encoding {declared[:100]!r}: expected {expected}")


async def read_body(request: Request, receive: Receive, most_bytes: int, most_values: int, until: float) -> Receive:
    """Read the body until `until` (`time.monotonic`); return a `receive` that yields all of it at once, decompressed.

    Raises TooLargeError, MalformedJsonError, InvalidRequestError, MediaTypeError, DeadlineError and ClientGoneError.
    """
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            body = await _Reading(request, receive, most_bytes, most_values).whole()
    except TimeoutError:
        raise DeadlineError("the body did not arrive before the deadline") from None
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    del body

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


class _Reading:
    """A body that is being read."""

    def __init__(self, request: Request, receive: Receive, most_bytes: int, most_values: int) -> None:
        self._receive, self._most_bytes = receive, most_bytes
        self._compressed = check_coding(request)
        self._outline = Outline(most_values) if _is_json(request) else None
        declared = request.headers.get("content-length", "")
        self._declared = int(declared) if declared.isdigit() else 0
        if self._declared > most_bytes and ("expect" in request.headers or self._declared > DISCARDED_BYTES):
            raise self._too_large(declared)
        self._received, self._more = 0, True

    async def whole(self) -> bytes:
        """Return the body."""
        chunks: list[bytes] = []
        size = 0
        try:
            async for piece in self._decompressed() if self._compressed else self._pieces():
                size += len(piece)
                if size > self._most_bytes:
                    raise self._too_large(f"{size} or more")
                if self._outline is not None:
                    self._outline.add(piece)
                chunks.append(piece)
        except InputError:
            chunks.clear()
            await self._discard()
            if self._received > self._most_bytes:  # this error comes first
                raise self._too_large(f"{self._received}{' or more' if self._more else ''}") from None
            raise
        return b"".join(chunks)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it was sent, up to the limit."""
        while self._more:
            piece = await self._next()
            if max(self._received, self._declared) > self._most_bytes:
                raise self._too_large(str(self._received))
            yield piece

    async def _decompressed(self) -> AsyncIterator[bytes]:
        """Yield the body decompressed, in small pieces, so that the limit is checked before more is decompressed."""
        decoder = zlib.decompressobj(GZIP_BITS)
        async for received in self._pieces():
            piece = received
            while piece:
                if decoder.eof:  # another gzip member follows
                    decoder = zlib.decompressobj(GZIP_BITS)
                try:
                    yield decoder.decompress(piece, PIECE_BYTES)
                except zlib.error as error:
                    raise InvalidRequestError(f"body: not the gzip data that Content-Encoding says ({error})") from None
                piece = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                await asyncio.sleep(0)  # a small piece may decompress into many; other requests continue
        if self._received and not decoder.eof:
            raise InvalidRequestError("body: the gzip data is cut off")

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the caller closed the connection while sending the body")
        piece: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        self._received += len(piece)
        return piece

    async def _discard(self) -> None:
        while self._more and self._received <= max(self._most_bytes, DISCARDED_BYTES):
            await self._next()

    def _too_large(self, size: str) -> TooLargeError:
        return TooLargeError(f"body: {size} bytes, expected at most {self._most_bytes}")


def _is_json(request: Request) -> bool:
    try:
        check_json(request)
    except MediaTypeError:
        return False
    return True
