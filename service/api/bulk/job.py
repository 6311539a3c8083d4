"""One bulk request at work: reads lines, scores them in chunks and writes their answers, concurrently.

Lines are read only as fast as they are scored and as their answers are read: up to `bulk_spool_bytes` of answers wait
in memory for the caller, then reading stops.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from fastapi import Request
from starlette.types import Message, Send

from service.api.bulk.bulk_lines import Answer
from service.api.bulk.chunk_scorer import PIECE_BYTES, ChunkScorer
from service.api.bulk.line_reader import Line, lines_of
from service.api.bulk.minimum_rate import Pace
from service.api.bulk.spool import Piece, Spool
from service.errors import TooSlowError
from service.settings import Settings

CHUNK_PAIRS, CHUNK_BYTES = 128, 128 * 1024  # a chunk ends at the first of the two
CHUNKS_AHEAD = 2


class BulkJob:
    """The reader, the scorer and the writer of one bulk request."""

    def __init__(self, request: Request, scorer: ChunkScorer, settings: Settings) -> None:
        self._request, self._scorer, self._settings = request, scorer, settings
        self._chunks: asyncio.Queue[asyncio.Task[list[Piece]] | None] = asyncio.Queue(CHUNKS_AHEAD)
        self._spool = Spool(settings.bulk_spool_bytes)
        self._pace = Pace(settings.bulk_min_bytes_per_second, settings.bulk_silence_seconds)
        self._receiving = self._sending = False
        self._taken = self._answered = 0  # lines that a chunk has or had; lines whose answers were sent
        self._last = 0  # the number of the last line whose answer was sent

    async def run(self, send: Send) -> None:
        """Send the answers as they come. Raises TooSlowError, ClientDisconnect or ClientGoneError."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(self._watch_pace()), group.create_task(self._scorer.watch())]
                group.create_task(self._read(group))
                group.create_task(self._collect())
                await self._write(send)
                for each in watching:
                    each.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def last_line(self, error: TooSlowError) -> bytes:
        """Return the line that ends the answer; its number is that of the first line without an answer."""
        answer = Answer(self._last + 1, None, {})
        answer.fail(error)
        return answer.encoded()

    async def _watch_pace(self) -> None:
        await self._pace.run_out()
        rate, silence = self._settings.bulk_min_bytes_per_second, self._settings.bulk_silence_seconds
        raise TooSlowError(
            f"the caller sent or read too little: expected {rate:g} bytes/s, and no pause of {silence:g} s; "
            "send the lines from this one on again"
        )

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Group the incoming lines into chunks and start each; wait while CHUNKS_AHEAD are in progress."""
        chunk: list[Line] = []
        size = 0
        async for line in lines_of(self._pieces()):
            chunk.append(line)
            size += len(line.content)
            if len(chunk) == CHUNK_PAIRS or size >= CHUNK_BYTES:
                await self._begin(group, chunk)
                chunk, size = [], 0
        if chunk:
            await self._begin(group, chunk)
        await self._chunks.put(None)

    async def _begin(self, group: asyncio.TaskGroup, chunk: Sequence[Line]) -> None:
        self._taken += len(chunk)
        self._note_wait()
        await self._chunks.put(group.create_task(self._scorer.answers(chunk)))

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in small pieces; the event loop serves other requests in between."""
        stream = self._request.stream()
        while True:
            self._receiving = True
            self._note_wait()
            body = await anext(stream, None)
            self._receiving = False
            self._note_wait()
            if body is None:
                return
            self._pace.moved(len(body))
            for start in range(0, len(body), PIECE_BYTES):
                yield body[start : start + PIECE_BYTES]
                await asyncio.sleep(0)

    async def _collect(self) -> None:
        while (task := await self._chunks.get()) is not None:
            for piece in await task:
                await self._spool.put(piece)
        self._spool.end()

    async def _write(self, send: Send) -> None:
        while (piece := await self._spool.get()) is not None:
            message: Message = {"type": "http.response.body", "body": piece.content, "more_body": True}
            self._sending = True
            self._note_wait()
            await send(message)
            self._sending = False
            self._answered, self._last = self._answered + piece.lines, piece.last
            self._note_wait()
            self._pace.moved(len(piece.content))

    def _note_wait(self) -> None:
        """Note whether the caller must act: it must read, or must send because all that it sent is answered."""
        self._pace.wait(self._sending or (self._receiving and self._taken == self._answered))
