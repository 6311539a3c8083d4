"""The bulk route: JSON lines in, JSON lines out, in bounded memory and at a lower priority than interactive requests.

A request whose caller neither sends nor reads at the minimum rate is ended.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from relevance.errors import RelevanceError
from service.api.admission import Admission
from service.api.bulk.chunk_scorer import ChunkScorer
from service.api.bulk.job import BulkJob
from service.api.context import context_of, service_of
from service.api.policy import Policy
from service.api.problems import KINDS, PROBLEMS
from service.api.score_call import choose
from service.auth.key_file import Scope
from service.errors import ClientGoneError, TooSlowError
from service.scheduling.job import Priority

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
async def score_bulk(request: Request, task: Annotated[str, Query(description="`qc`, `qi` or `rerank`")]) -> Response:
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
        """Send the answers. For a caller that is too slow, return the line that is to end its answer."""
        settings, context = self._service.settings, context_of(self._request)
        scorer = ChunkScorer(choose(self._request, self._task, by_share=False), settings, context)
        job = BulkJob(self._request, scorer, settings)
        self.headers["X-Model-Version"] = scorer.version
        with scorer.holding():
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
        """Note for metrics and log why an answer that had begun did not end normally."""
        kind, record = KINDS[error], context_of(self._request).record
        record.reason, record.status = kind.reason, kind.status


async def _end_slow(receive: Receive, line: bytes, send: Send) -> None:
    """Send the last line to a caller that was too slow. Discard what it still sends, so that it comes to read."""
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
