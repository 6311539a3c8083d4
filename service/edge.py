"""What happens to every request before and after its route: request id, body limit, metrics, one log line."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ClientGoneError, TooLargeError
from service.problems import BUG, on_relevance_error, problem
from service.telemetry import Metrics

log = logging.getLogger("service.requests")

SCORE_PATH = "/v1/score"
PATHS = (SCORE_PATH, "/v1/models", "/healthz", "/readyz", "/metrics")
OTHER = "other"

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
DISCARDED_BYTES = 16 * 1024 * 1024  # read and thrown away, so that the caller gets to see the 413


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: Metrics) -> None:
        self._app, self._max_body_bytes, self._metrics = app, max_body_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; faults that nothing else caught end here as a 500 without details."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        request = _identified(scope)

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request.state.request_id
            await send(message)

        try:
            await self._app(scope, await _body(request, receive, self._max_body_bytes), send_named)
        except (TooLargeError, ClientGoneError) as error:
            answer = await on_relevance_error(request, error)
            await answer(scope, receive, send_named)
        except Exception:
            log.exception("fault", extra={"request_id": request.state.request_id})
            if not status:
                answer = problem(request, BUG, "see the service's log for this request id")
                await answer(scope, receive, send_named)
        finally:
            self._account(request, status or 499, time.perf_counter() - started)

    def _account(self, request: Request, status: int, seconds: float) -> None:
        route = request.url.path if request.url.path in PATHS else OTHER
        reason = getattr(request.state, "reason", None)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if reason and route == SCORE_PATH:
            self._metrics.rejections.labels(reason).inc()
        line = {"request_id": request.state.request_id, "method": request.method, "route": route, "status": status}
        line |= {"duration_ms": round(1000 * seconds, 2)} | ({"reason": reason} if reason else {})
        level = logging.INFO if route in (SCORE_PATH, OTHER) or status >= 500 else logging.DEBUG
        log.log(level, "request", extra=line | request.state.logged)


def _identified(scope: Scope) -> Request:
    """Return the request with its id, the caller's own where it is a sane one, and room for what its route logs."""
    state = scope.setdefault("state", {})
    asked = Headers(scope=scope).get("x-request-id", "")
    state["request_id"] = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
    state["logged"] = {}
    return Request(scope)


async def _body(request: Request, receive: Receive, limit: int) -> Receive:
    """Read the body and return a `receive` that hands it over whole. Raises TooLargeError and ClientGoneError."""
    declared = request.headers.get("content-length", "")
    if (
        declared.isdigit()
        and int(declared) > limit
        and ("expect" in request.headers or int(declared) > DISCARDED_BYTES)
    ):
        raise TooLargeError(f"body: {declared} bytes, expected at most {limit}")
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size <= max(limit, DISCARDED_BYTES):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the caller closed the connection while sending the body")
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if size <= limit:
            chunks.append(message.get("body", b""))
    if size > limit:
        raise TooLargeError(f"body: {size} bytes{' or more' if more else ''}, expected at most {limit}")
    whole: list[Message] = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay
