"""Bulk scoring: JSON lines in, JSON lines out, in constant memory and behind everybody who waits.

Lines are read only as fast as they are scored. Answers that the caller does not read yet wait in a file, so that a
caller may send everything before it reads anything.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from relevance.errors import InputError, RelevanceError
from relevance.languages import normalize_language
from relevance.tasks import Pair, Task
from service import schemas
from service.admission import Names, check
from service.batching import Priority
from service.edge import BULK_PATH
from service.errors import BulkOffError, ClientGoneError, InvalidRequestError, TooManyRequestsError
from service.lines import Line, lines_of
from service.models import ServedModel
from service.outline import Outline
from service.problems import BUG, KINDS
from service.routes import PROBLEMS
from service.scoring import choose
from service.settings import Settings
from service.state import Service

CHUNK_PAIRS, CHUNKS_AHEAD = 128, 2
SILENCE_SECONDS = 60.0
SPOOL_BYTES, PIECE_BYTES = 1024 * 1024, 64 * 1024
MOST_SPOOL_BYTES = 1024**3
LONG_LINE_BYTES = 4096  # takes some 0.1 ms
LINE_VALUES = 32  # more than a pair has: each one that is not known is a fault of its own
NAMES = Names("lines", "query", "candidate")

router = APIRouter()


@router.post(
    BULK_PATH,
    responses=PROBLEMS
    | {200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line"}}
    | {403: PROBLEMS[403] | {"description": "Bulk scoring is switched off, or the API key is not for this"}},
    response_class=Response,
    openapi_extra={"requestBody": {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def score_bulk(request: Request, task: Annotated[str, Query(description="`qc` or `qi`")]) -> Response:
    """Score one pair a line, `{"query": ..., "candidate": ..., "language": ..., "id": ...}`, the last two optional.

    Answers one line for each, in the same order: `{"line", "id", "score", "label", "truncated"}`, or `{"line", "id",
    "status", "reason", "detail"}` where that line could not be scored.
    """
    service: Service = request.app.state.service
    most = service.settings.max_bulk_requests
    if not most:
        raise BulkOffError("bulk scoring is switched off here (max_bulk_requests is 0); expected POST /v1/score")
    model = choose(request, task, by_share=False)
    if service.bulk_in_work >= most:
        raise TooManyRequestsError(f"{service.bulk_in_work} bulk requests are in work, expected at most {most}", 10)
    request.state.logged |= {"task": model.task.value, "pairs": 0, "tokens": 0}
    return _Streamed(request, model.task, service)


class _Streamed(Response):
    """A response that is sent while the request's body is still coming in."""

    media_type = "application/x-ndjson"

    def __init__(self, request: Request, task: Task, service: Service) -> None:
        super().__init__()
        self._request, self._task, self._service = request, task, service
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = choose(self._request, self._task, by_share=False)
        with model.holds.hold():  # all lines are scored by the model that the first one began with
            self.headers["X-Model-Version"] = self._request.state.logged["version"] = model.manifest.version
            await self._stream(_Job(self._request, model, self._service), send)

    async def _stream(self, job: "_Job", send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with contextlib.aclosing(job.answers()) as answers:
                async for piece in answers:
                    await self._send(job, send, {"type": "http.response.body", "body": piece, "more_body": True})
        except (ClientDisconnect, ClientGoneError):  # no answer is left to give: it breaks off, and is counted so
            kind = KINDS[ClientGoneError]
            state = job.request.state
            state.reason, state.ended = kind.reason, kind.status
            return
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, job: "_Job", send: Send, message: Message) -> None:
        """Send a message; a caller that neither reads nor sends for long gives its place to another."""
        sending = asyncio.ensure_future(send(message))
        try:
            while not sending.done():
                moved = job.moved
                await asyncio.wait({sending}, timeout=SILENCE_SECONDS)
                if not sending.done() and job.moved == moved:
                    raise ClientGoneError(f"the caller read nothing for {SILENCE_SECONDS:.0f} s")
            sending.result()
        finally:
            sending.cancel()


class _Job:
    """One bulk request: reads, scores and writes side by side."""

    def __init__(self, request: Request, model: ServedModel, service: Service) -> None:
        self.request, self._model, self._service = request, model, service
        self.moved = 0  # how often something came in or was scored
        self._read_on = asyncio.Event()  # the spool has room
        self._chunks: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(CHUNKS_AHEAD)

    async def answers(self) -> AsyncGenerator[bytes, None]:
        """Yield the answers as they come."""
        self._service.bulk_in_work += 1
        spool, more = _Spool(), asyncio.Event()
        reading, collecting = asyncio.create_task(self._read()), asyncio.create_task(self._collect(spool, more))
        collecting.add_done_callback(lambda done: more.set())
        reading.add_done_callback(lambda done: collecting.cancel() if done.cancelled() or done.exception() else None)
        try:
            while not collecting.done():
                await more.wait()
                more.clear()
                while piece := spool.read():
                    self._read_on.set()
                    yield piece
            if not collecting.cancelled():
                collecting.result()
            await reading
        finally:
            self._service.bulk_in_work -= 1
            reading.cancel()
            collecting.cancel()
            while not self._chunks.empty():
                if (task := self._chunks.get_nowait()) is not None:
                    task.cancel()
            spool.close()

    async def _read(self) -> None:
        """Cut the lines that come in into chunks and start each; waits while enough are under way."""
        chunk: list[Line] = []
        async for line in lines_of(_patient(self.request.stream())):
            self.moved += 1
            chunk.append(line)
            if len(chunk) == CHUNK_PAIRS:
                await self._chunks.put(asyncio.create_task(self._score(chunk)))
                chunk = []
        if chunk:
            await self._chunks.put(asyncio.create_task(self._score(chunk)))
        await self._chunks.put(None)

    async def _collect(self, spool: "_Spool", more: asyncio.Event) -> None:
        while (task := await self._chunks.get()) is not None:
            try:
                spool.write(await task)
            finally:
                task.cancel()
            self.moved += 1
            more.set()
            while spool.waiting > MOST_SPOOL_BYTES:  # so no more is read either
                self._read_on.clear()
                await self._read_on.wait()

    async def _score(self, lines: Sequence[Line]) -> bytes:
        """Return the answer lines of a chunk."""
        answers: list[dict[str, Any]] = []
        pairs: list[Pair] = []
        for line in lines:
            answer: dict[str, Any] = {"line": line.number}
            try:
                parsed = _parse(line, self._service.settings)
                answer |= {} if parsed.id is None else {"id": parsed.id}
                pairs.append(Pair(parsed.query, parsed.candidate, normalize_language(parsed.language)))
            except RelevanceError as error:
                answer |= _problem(error)
            answers.append(answer)
            if len(line.content) > LONG_LINE_BYTES:
                await asyncio.sleep(0)  # others get their turn
        waiting = [answer for answer in answers if "status" not in answer]
        if pairs:
            await self._fill(waiting, self._model.score(pairs, priority=Priority.BULK))
        return b"".join(json.dumps(answer, separators=(",", ":")).encode() + b"\n" for answer in answers)

    async def _fill(self, answers: Sequence[dict[str, Any]], scoring: Coroutine[Any, Any, Any]) -> None:
        try:
            scored = await scoring
        except RelevanceError as error:
            for answer in answers:
                answer |= _problem(error)
            return
        cut = set(scored.truncated)
        for place, (answer, score, label) in enumerate(
            zip(answers, scored.scores.tolist(), scored.labels, strict=True)
        ):
            answer |= {"score": score, "label": label, "truncated": place in cut}
        self.request.state.logged["pairs"] += len(answers)
        self.request.state.logged["tokens"] += scored.tokens


async def _patient(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what comes in; a caller that sends nothing for long gives its place to another."""
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                piece = await anext(stream)
            yield piece
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise ClientGoneError(f"nothing came from the caller for {SILENCE_SECONDS:.0f} s") from None


def _parse(line: Line, settings: Settings) -> schemas.BulkLine:
    if line.too_long:
        raise InvalidRequestError("the line is too long for any pair")
    try:
        Outline(LINE_VALUES).add(line.content)
    except InputError:
        raise InvalidRequestError(f"the line holds more than {LINE_VALUES} values, expected a pair") from None
    try:
        parsed = schemas.BulkLine.model_validate_json(line.content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:100] for part in fault["loc"])
        raise InvalidRequestError(f"{where}: {fault['msg']}" if where else fault["msg"]) from None
    check([Pair(parsed.query, parsed.candidate)], settings, NAMES)
    return parsed


def _problem(error: RelevanceError) -> dict[str, Any]:
    kind = KINDS.get(type(error), BUG)
    return {"status": kind.status, "reason": kind.reason, "detail": str(error) if kind is not BUG else kind.title}


class _Spool:
    """Bytes that wait for a slow reader: in memory up to SPOOL_BYTES, then in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed by `close`
        self._read = self._written = 0

    @property
    def waiting(self) -> int:
        """How many bytes are there to read."""
        return self._written - self._read

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)

    def read(self) -> bytes:
        """Take the next bytes, none where all are read; then the file starts anew."""
        self._file.seek(self._read)
        data = self._file.read(min(PIECE_BYTES, self.waiting))
        self._read += len(data)
        if not self.waiting:
            self._read = self._written = 0
            self._file.seek(0)
            self._file.truncate()
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
