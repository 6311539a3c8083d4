"""Bulk scoring: JSON lines in, JSON lines out, in bounded memory and behind everybody who waits.

Lines are read only as fast as they are scored and as their answers are read: up to `bulk_spool_bytes` of answers wait
in memory for the caller, then reading stops. A caller that neither sends nor reads as fast as it must loses its place.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from relevance.errors import RelevanceError
from relevance.tasks import Pair
from service.api.admission import Admission
from service.api.bulk.bulk_lines import Answer, read
from service.api.bulk.line_reader import Line, lines_of
from service.api.bulk.minimum_rate import Pace
from service.api.bulk.spool import Piece, Spool
from service.api.context import context_of, service_of
from service.api.policy import Policy
from service.api.problems import KINDS, PROBLEMS
from service.api.score_call import choose
from service.auth.key_file import Scope
from service.errors import ClientGoneError, ModelRetiredError, TooSlowError
from service.lifecycle.service import Service
from service.scheduling.job import Priority
from service.scoring.served_model import Scored, ServedModel

CHUNK_PAIRS, CHUNK_BYTES = 128, 128 * 1024  # a chunk ends at the first of the two: it is parsed in one go
CHUNKS_AHEAD = 2
LONG_LINE_BYTES, PIECE_BYTES = 4096, 16 * 1024  # parsed, and read or written, before others have their turn
ENDING_SECONDS = 20.0  # for the last line of a caller that was too slow

router = APIRouter()


@router.post(
    "/v1/score/bulk",
    responses=PROBLEMS
    | {200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line"}}
    | {403: PROBLEMS[403] | {"description": "Bulk scoring is switched off, or the API key is not for this"}},
    response_class=Response,
    openapi_extra={"requestBody": {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
@Policy(Scope.SCORE, scores=Priority.BULK, named=True)
async def score_bulk(request: Request, task: Annotated[str, Query(description="`qc` or `qi`")]) -> Response:
    """Score one pair a line, `{"query": ..., "candidate": ..., "language": ..., "id": ...}`, the last two optional.

    Answers one line for each, in the same order: `{"line", "id", "score", "label", "truncated"}`, or `{"line", "id",
    "status", "reason", "detail"}` where that line could not be scored.
    """
    return _Streamed(request, task)


class _Streamed(Response):
    """A response that is sent while the request's body is still coming in."""

    media_type = "application/x-ndjson"

    def __init__(self, request: Request, task: str) -> None:
        super().__init__()
        self._request, self._task = request, task
        self._service = service_of(request)
        del self.headers["content-length"]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        with Admission(self._service).bulk_place():
            last_line = await self._stream(send)
        if last_line:
            await _end_slow(receive, last_line, send)

    async def _stream(self, send: Send) -> bytes:
        """Send the answers; for a caller that is too slow, return the line that is to end its answer."""
        job = _Job(self._request, choose(self._request, self._task, by_share=False), self._service)
        self.headers["X-Model-Version"] = job.version
        with job.holding():
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await job.run(send)
            except (ClientDisconnect, ClientGoneError):  # the answer breaks off
                self._note(ClientGoneError)
                return b""
            except TooSlowError as error:
                self._note(TooSlowError)
                return job.last_line(error)
            await send({"type": "http.response.body", "body": b""})
        return b""

    def _note(self, error: type[RelevanceError]) -> None:
        """Note for metrics and log why an answer that had begun did not end as it should."""
        kind, record = KINDS[error], context_of(self._request).record
        record.reason, record.status = kind.reason, kind.status


class _Job:
    """One bulk request: reads, scores and writes side by side."""

    def __init__(self, request: Request, model: ServedModel, service: Service) -> None:
        settings = service.settings
        self.version = model.manifest.version
        self._request, self._settings = request, settings
        self._model: ServedModel | None = model  # None: it was replaced, and may no longer be used
        self._held = contextlib.ExitStack()
        self._scoring: set[asyncio.Task[Scored]] = set()
        self._chunks: asyncio.Queue[asyncio.Task[list[Piece]] | None] = asyncio.Queue(CHUNKS_AHEAD)
        self._spool = Spool(settings.bulk_spool_bytes)
        self._pace = Pace(settings.bulk_min_bytes_per_second, settings.bulk_silence_seconds)
        self._receiving = self._sending = False
        self._taken = self._answered = 0  # lines that a chunk has or had; lines whose answers were sent
        self._last = 0  # the number of the last one of these
        self._context = context_of(request)
        record = self._context.record
        record.task, record.version, record.pairs, record.tokens = model.task, self.version, 0, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Use the model meanwhile, or until it is asked for back."""
        if self._model is not None:
            self._held.enter_context(self._model.leases.acquire())
        with self._held:
            yield

    async def run(self, send: Send) -> None:
        """Send the answers as they come. Raises TooSlowError, ClientDisconnect or ClientGoneError."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(self._watch_pace()), group.create_task(self._watch_model())]
                group.create_task(self._read(group))
                group.create_task(self._collect())
                await self._write(send)
                for each in watching:
                    each.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def last_line(self, error: TooSlowError) -> bytes:
        """Return the line that ends the answer: it has the number of the first line that is not answered."""
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

    async def _watch_model(self) -> None:
        """Let go of the model where it is asked for back: what is not scored by then is answered by an error."""
        if self._model is not None:
            await self._model.leases.revoked.wait()
            self._model = None
            for scoring in self._scoring:
                scoring.cancel()
            self._held.close()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Cut the lines that come in into chunks and start each; waits while enough are under way."""
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
        await self._chunks.put(group.create_task(self._score(chunk)))

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield what comes in, in small pieces between which others have their turn at the event loop."""
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
        """The caller is waited for where it must read, or must send while all that it has sent is answered."""
        self._pace.wait(self._sending or (self._receiving and self._taken == self._answered))

    async def _score(self, lines: Sequence[Line]) -> list[Piece]:
        """Return the answer lines of a chunk."""
        found: list[tuple[Answer, Pair | None]] = []
        for line in lines:
            found.append(read(line, self._settings))
            if len(line.content) > LONG_LINE_BYTES:
                await asyncio.sleep(0)  # others get their turn
        if pairs := [pair for _, pair in found if pair is not None]:
            await self._fill([answer for answer, pair in found if pair is not None], pairs)
        return list(_pieces_of([answer for answer, _ in found]))

    async def _fill(self, answers: Sequence[Answer], pairs: Sequence[Pair]) -> None:
        try:
            scored = await self._scored(pairs)
        except RelevanceError as error:
            for answer in answers:
                answer.fail(error)
            return
        cut = set(scored.truncated)
        for place, (answer, score, label) in enumerate(
            zip(answers, scored.scores.tolist(), scored.labels, strict=True)
        ):
            answer.fields = {"score": score, "label": label, "truncated": place in cut}
        record = self._context.record
        record.pairs = (record.pairs or 0) + len(answers)
        record.tokens = (record.tokens or 0) + scored.tokens

    async def _scored(self, pairs: Sequence[Pair]) -> Scored:
        """Return scores, unless the model is asked for back meanwhile. No frame keeps the model from being freed."""
        if self._model is None:
            raise self._retired()
        scoring = asyncio.ensure_future(self._model.score(pairs, self._context))
        self._scoring.add(scoring)
        try:
            await asyncio.wait({scoring})
        finally:
            scoring.cancel()
            self._scoring.discard(scoring)
        if scoring.cancelled():
            raise self._retired()
        return scoring.result()

    def _retired(self) -> ModelRetiredError:
        return ModelRetiredError(f"model {self.version} was replaced while this request ran; send the line again")


def _pieces_of(answers: Sequence[Answer]) -> Iterator[Piece]:
    """Yield answer lines in pieces of PIECE_BYTES, or one line where that is longer."""
    lines: list[bytes] = []
    size = 0
    for place, answer in enumerate(answers, start=1):
        lines.append(answer.encoded())
        size += len(lines[-1])
        if size >= PIECE_BYTES or place == len(answers):
            yield Piece(len(lines), answer.number, b"".join(lines))
            lines, size = [], 0


async def _end_slow(receive: Receive, line: bytes, send: Send) -> None:
    """Send a caller that was too slow its last line. What it still sends is thrown away, so that it comes to read."""
    discarding = asyncio.create_task(_discard(receive))
    try:
        async with asyncio.timeout(ENDING_SECONDS):
            await send({"type": "http.response.body", "body": line})
    except TimeoutError:
        return  # the connection is closed without the end of the answer
    finally:
        discarding.cancel()


async def _discard(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
