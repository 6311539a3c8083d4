"""What happens to every request before and after its route: request id, body limit, metrics, timing, one log line."""

import asyncio
import logging
import re
import time
import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relevance.errors import RelevanceError
from relevance.requestid import REQUEST_ID
from service.api.body.outline import VALUES_A_CANDIDATE
from service.api.body.parsing import check_coding, read_body
from service.api.problems import BUG, DRAINING, on_relevance_error, problem
from service.auth import key_file
from service.auth.keys import Keys
from service.errors import InvalidRequestError
from service.lifecycle.service import Service
from service.observability.metrics import count_class
from service.observability.tracing import Answered, Tracer
from service.scoring.model_metrics import ModelMetrics
from service.settings import Settings

log = logging.getLogger("service.requests")

SCORE_PATH = "/v1/score"
BULK_PATH = "/v1/score/bulk"
INTERACTIVE_PATHS = (SCORE_PATH, "/rerank", "/v1/rerank", "/v2/rerank", "/predict")
SCORING_PATHS = (*INTERACTIVE_PATHS, BULK_PATH)
HEALTH_PATHS = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
PATHS = (*SCORING_PATHS, "/v1/models", *HEALTH_PATHS)
OTHER = "other"

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,8}")
BODY_SECONDS = 60.0  # for a body where no deadline says less
OTHER_BODY_BYTES = 64 * 1024  # where no text is scored: nothing else bounds how many such requests hold one


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a scored request went: seconds of its parts, and when its scores were there."""

    seconds: dict[str, float]
    metrics: ModelMetrics
    pairs: int
    scored_at: float


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; faults that nothing else caught end here as a 500 without details."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, status = _identified(scope), 0
        headers_in, is_head = request.headers, scope["method"] == "HEAD"

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request.state.request_id
                if self._service.draining or (status >= 400 and "expect" in headers_in):
                    headers["Connection"] = "close"  # after a refusal nobody knows whether a body still follows
                if status == 200 and request.state.timing is not None:
                    headers["Server-Timing"] = _timed(request)
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._handle(request, receive, send_named)
        except RelevanceError as error:
            answer = await on_relevance_error(request, error)
            if not status:
                await answer(scope, receive, send_named)
        except asyncio.CancelledError:
            if not self._service.draining:
                raise
            request.state.ended = DRAINING.status
            answer = problem(request, DRAINING, "the service ended before the answer was there")
            if not status:
                await answer(scope, receive, send_named)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # a panic of the tokeniser's Rust code is no Exception
            log.exception("fault", extra={"request_id": request.state.request_id})
            request.state.ended = request.state.ended or BUG.status
            if not status:
                answer = problem(request, BUG, "see the service's log for this request id")
                await answer(scope, receive, send_named)
        finally:
            self._account(request, request.state.ended or status or 499)

    async def _handle(self, request: Request, receive: Receive, send: Send) -> None:
        """Let a request in, by its API key where there are keys; this too before anything of the body is read."""
        keys = self._service.keys
        needed = self._needed(keys, request.scope["path"]) if keys is not None else None
        if keys is None or needed is None:
            await self._pass_on(request, receive, send)
            return
        grant = keys.find(request.scope["headers"])
        request.state.logged["key"] = grant.key.name
        with grant.admitted(needed):
            await self._pass_on(request, receive, send)

    def _needed(self, keys: Keys, path: str) -> key_file.Scope | None:
        """Return the scope that a path needs; None where it is open to all."""
        return keys.scope_of(path)

    async def _pass_on(self, request: Request, receive: Receive, send: Send) -> None:
        """Pass a request on; a scoring one only where there is room, which is looked at before anything is read."""
        service, scope = self._service, request.scope
        if scope["method"] == "HEAD":  # what GET answers, without the body
            scope = {**scope, "method": "GET"}
        if scope["path"] == BULK_PATH:  # reads its body itself, as it goes
            check_coding(request, taken=())
            await self._app(scope, receive, send)
            return
        counted = scope["path"] in INTERACTIVE_PATHS and scope["method"] == "POST"
        if counted:
            service.check_room()
        service.in_work += counted
        try:
            until = request.state.began + BODY_SECONDS
            if counted:
                until = min(until, deadline_of(request, service.settings))
            most = service.settings.max_body_bytes if counted else OTHER_BODY_BYTES
            values = VALUES_A_CANDIDATE * service.settings.max_candidates
            body = await read_body(request, receive, most, values, until)
            await self._app(scope, body, send)
        finally:
            service.in_work -= counted

    def _account(self, request: Request, status: int) -> None:
        seconds, state, metrics = time.monotonic() - request.state.began, request.state, self._service.metrics
        route = _route(request)
        reason = getattr(state, "reason", None)
        metrics.requests.labels(route, str(status)).inc()
        pairs = state.logged.get("pairs", 0) if status == 200 else 0
        task = state.logged["task"] if pairs else ""
        metrics.request_seconds.labels(route, task, count_class(pairs)).observe(seconds)
        if reason and route in SCORING_PATHS:
            metrics.rejections.labels(reason).inc()
        if self._service.tracer is not None and route not in HEALTH_PATHS:
            self._trace(self._service.tracer, request, route, status)
        line = {"request_id": state.request_id, "method": request.method, "route": route, "status": status}
        line |= {"duration_ms": round(1000 * seconds, 2)} | ({"reason": reason} if reason else {})
        level = logging.INFO if route in (*SCORING_PATHS, OTHER) or status >= 500 else logging.DEBUG
        log.log(level, "request", extra=line | state.logged)

    def _trace(self, tracer: Tracer, request: Request, route: str, status: int) -> None:
        """Make the spans of a request, and note its trace in its log line."""
        state, timing = request.state, request.state.timing
        notes = {"request_id": state.request_id} | state.logged
        if reason := getattr(state, "reason", None):
            notes["reason"] = reason
        seconds, scored_at = (timing.seconds, timing.scored_at) if timing is not None else (None, None)
        began, ended, headers = state.began, time.monotonic(), request.headers
        answered = Answered(request.method, route, status, began, ended, headers, notes, seconds, scored_at)
        if trace := tracer.record(answered):
            state.logged["trace_id"] = trace


def deadline_of(request: Request, settings: Settings) -> float:
    """Return when the answer must be there, on `time.monotonic`. Raises InvalidRequestError for a header that is odd.

    The time counts from the first byte of the request; the caller's own limit can only lower the operator's.
    """
    limit, asked = settings.request_timeout_ms, request.headers.get(TIMEOUT_HEADER)
    if asked is not None:
        if not MILLISECONDS.fullmatch(asked):
            raise InvalidRequestError(f"{TIMEOUT_HEADER} {asked[:100]!r}: expected whole milliseconds, 1 or more")
        limit = min(limit, float(asked))
    began: float = request.state.began
    return began + limit / 1000


def _identified(scope: Scope) -> Request:
    """Return the request with its id, the caller's own where it is a sane one, and room for what its route notes."""
    state = scope.setdefault("state", {})
    asked = Headers(scope=scope).get("x-request-id", "")
    state["began"] = time.monotonic()
    state["request_id"] = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
    state["logged"], state["timing"] = {}, None
    state["ended"] = 0  # the status to count where an answer broke off that had begun
    return Request(scope)


def _route(request: Request) -> str:
    path: str = request.scope["path"]
    return path if path in PATHS else OTHER


def _timed(request: Request) -> str:
    """Count the parts of a scored request and return them as the value of a Server-Timing header."""
    timing: Timing = request.state.timing
    now = time.monotonic()
    seconds = timing.seconds | {"serialize": now - timing.scored_at}
    timing.metrics.phases(_route(request), timing.pairs, seconds)
    parts = [*seconds.items(), ("total", now - request.state.began)]
    return ", ".join(f"{part};dur={1000 * each:.2f}" for part, each in parts)
