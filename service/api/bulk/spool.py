"""The queue of answers that a bulk caller has not yet read. In memory, so that no disk can be filled."""

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole answer lines: how many, the number of the last one, and their bytes."""

    lines: int
    last: int
    content: bytes


class Spool:
    """A queue of at most `limit` bytes, or one piece where that is larger. For one writer and one reader."""

    def __init__(self, limit: int) -> None:
        self.waiting_bytes = 0
        self._limit = limit
        self._pieces: deque[Piece | None] = deque()
        self._changed = asyncio.Event()

    async def put(self, piece: Piece) -> None:
        """Add a piece at the end, once there is room."""
        size = len(piece.content)
        while self.waiting_bytes and self.waiting_bytes + size > self._limit:
            self._changed.clear()
            await self._changed.wait()
        self.waiting_bytes += size
        self._add(piece)

    def end(self) -> None:
        """Mark the end: no piece follows."""
        self._add(None)

    async def get(self) -> Piece | None:
        """Wait for the next piece and return it; None at the end."""
        while not self._pieces:
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self.waiting_bytes -= len(piece.content) if piece is not None else 0
        self._changed.set()
        return piece

    def _add(self, piece: Piece | None) -> None:
        self._pieces.append(piece)
        self._changed.set()
