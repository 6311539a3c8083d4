"""Counts the values of a JSON text while it arrives, before it is parsed.

Parsing is expensive: `[],[],[]` takes thirty times its own size as Python lists, and refusing a list of a million wrong
elements takes seconds. Counting takes some 0.2 ms for 64 KiB, in constant memory.
"""

from relevance.errors import InputError
from service.errors import MalformedJsonError, TooLargeError

MOST_DEPTH = 1000  # Python's own parser goes no deeper
VALUES_A_CANDIDATE = 32  # room for objects with a few more keys than are read
CHARACTERS_A_VALUE = 32  # outside of texts: brackets, commas, numbers
PIECE_BYTES = 64 * 1024
BLANKS = b" \t\r\n"
STRUCTURE = b"[]{},"
NOT_STRUCTURE = bytes(each for each in range(256) if each not in STRUCTURE)


class Outline:
    """The number of values, and the depth, of a JSON text in UTF-8 that comes in pieces.

    The count is right up to the place where a parser would stop; text that is not JSON may be counted wrongly.
    """

    def __init__(self, most_values: int) -> None:
        self._most = most_values
        self._values = self._texts = self._depth = self._characters = 0
        self._in_text = self._escaped = False

    def add(self, piece: bytes) -> None:
        """Count a piece. Raises TooLargeError for too many values and MalformedJsonError for too deep ones."""
        for start in range(0, len(piece), PIECE_BYTES):
            self._count(piece[start : start + PIECE_BYTES])
            if fault := self._fault():
                raise fault

    def _count(self, piece: bytes) -> None:
        piece = self._without_escapes(piece)
        quotes = piece.count(b'"')
        self._texts += quotes
        if self._texts > 4 * self._most + 2:  # two quotes a text, and a key and a text a value
            self._values = max(self._values, self._most + 1)
            return
        outside = b"".join(piece.split(b'"')[self._in_text :: 2])
        self._in_text ^= bool(quotes % 2)
        outside = outside.translate(None, BLANKS)
        self._characters += len(outside)
        found = outside.translate(None, NOT_STRUCTURE)
        opened, closed = found.count(b"[") + found.count(b"{"), found.count(b"]") + found.count(b"}")
        self._values += opened + found.count(b",")
        self._depth += opened - closed

    def _without_escapes(self, piece: bytes) -> bytes:
        """Return a piece of the same length without escaped quotes, also those that are split between two pieces."""
        if self._escaped:
            piece, self._escaped = b"_" + piece[1:], False
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"__").replace(b'\\"', b"__")
            self._escaped = piece.endswith(b"\\")
        return piece

    def _fault(self) -> InputError | None:
        if self._depth > MOST_DEPTH:
            return MalformedJsonError(f"the body is nested too deeply; expected at most {MOST_DEPTH} levels")
        if self._values > self._most:
            return TooLargeError(f"body: {self._values} values or more, expected at most {self._most}")
        most = CHARACTERS_A_VALUE * self._most
        if self._characters > most:
            return TooLargeError(f"body: {self._characters} bytes of numbers, expected at most {most} outside of texts")
        return None
