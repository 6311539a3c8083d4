"""What every request goes through: its context, its policy, admission, its body within limits, and its record."""

import asyncio
import logging
import math
import re
import time
import uuid
from dataclasses import replace

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relevance.errors import RelevanceError
from relevance.requestid import REQUEST_ID
from service.api.admission import Admission
from service.api.body.outline import VALUES_A_CANDIDATE
from service.api.body.parsing import check_coding, read_body
from service.api.context import context_of, put, target_of
from service.api.policy import RoutePolicies, Target
from service.api.problems import BUG, DRAINING, on_relevance_error, problem
from service.api.recording import Recorder
from service.errors import InvalidRequestError
from service.lifecycle.service import Service
from service.scheduling.job import Priority
from service.scoring.request_context import RequestContext
from service.settings import Settings

log = logging.getLogger("service.requests")

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,8}")
BODY_SECONDS = 60.0  # for a body where no deadline is earlier


class RequestMiddleware:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service, policies: RoutePolicies, record: Recorder) -> None:
        self._app, self._service, self._policies, self._record = app, service, policies, record
        self._admission = Admission(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; faults that nothing else caught end here as a 500 without details."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        target = self._policies.find(scope["path"])
        scope = put({**scope, "path": target.path}, _context(scope, target), target)
        if target.model is not None:
            scope["path_params"] = {"model": target.model}
        request = Request(scope)
        answer = _Answer(request, send, self._service)
        try:
            await self._pass_on(request, receive, answer.send)
        except RelevanceError as error:
            await answer.instead(await on_relevance_error(request, error), receive)
        except asyncio.CancelledError:
            if not self._service.draining:
                raise
            answer.broke_off(DRAINING.status)
            cut = problem(request, DRAINING, "the service ended before the answer was ready")
            await answer.instead(cut, receive)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # a panic of the tokeniser's Rust code is no Exception
            log.exception("fault", extra={"request_id": context_of(request).request_id})
            answer.broke_off(answer.record.status or BUG.status)
            await answer.instead(problem(request, BUG, "see the service's log for this request id"), receive)
        finally:
            self._record(request, target, answer.record.status or answer.status or 499)

    async def _pass_on(self, request: Request, receive: Receive, send: Send) -> None:
        """Admit a request, read its body and pass both on."""
        target, context, scope = target_of(request), context_of(request), request.scope
        method, settings = scope["method"], self._service.settings
        with self._admission.admitted(context, target.policy, method, scope["headers"]):
            if target.policy.is_interactive(method):
                context = replace(context, deadline=deadline_of(request, settings))
            limit = target.policy.max_body_bytes(settings, method)
            if limit is None:  # the route reads its body itself, as a stream
                check_coding(request, taken=())
            else:
                values = VALUES_A_CANDIDATE * settings.max_candidates
                until = min(context.began + BODY_SECONDS, context.deadline)
                receive = await read_body(request, receive, limit, values, until)
            scope = put(scope, context, target)
            if method == "HEAD":  # what GET answers, without the body
                scope["method"] = "GET"
            await self._app(scope, receive, send)


class _Answer:
    """The answer of one request on its way out: adds the headers that all answers have."""

    def __init__(self, request: Request, send: Send, service: Service) -> None:
        self._request, self._send, self._service = request, send, service
        self._is_head = request.method == "HEAD"
        self._expects = "expect" in request.headers
        self.context = context_of(request)
        self.record = self.context.record
        self.status = 0  # 0: not yet begun

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    async def instead(self, answer: ASGIApp, receive: Receive) -> None:
        """Send another answer where none has begun."""
        if not self.status:
            await answer(self._request.scope, receive, self.send)

    def broke_off(self, status: int) -> None:
        """Report the request with this status, whatever its answer began with."""
        self.record.status = status

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["X-Request-Id"] = self.context.request_id
        if self._service.draining or (self.status >= 400 and self._expects):
            headers["Connection"] = "close"  # after a refusal it is unknown whether a body still follows
        if self.status == 200 and self.record.timing is not None:
            headers["Server-Timing"] = _server_timing(self.context)


def deadline_of(request: Request, settings: Settings) -> float:
    """Return when the answer must be there, on `time.monotonic`. Raises InvalidRequestError for a wrong header.

    The time counts from the first byte of the request; the caller's own limit can only lower the operator's.
    """
    limit, asked = settings.request_timeout_ms, request.headers.get(TIMEOUT_HEADER)
    if asked is not None:
        if not MILLISECONDS.fullmatch(asked):
            raise InvalidRequestError(f"{TIMEOUT_HEADER} {asked[:100]!r}: expected whole milliseconds, 1 or more")
        limit = min(limit, float(asked))
    return context_of(request).began + limit / 1000


def _context(scope: Scope, target: Target) -> RequestContext:
    """Return the context of a request, with the caller's own request id where it is a valid one."""
    asked = Headers(scope=scope).get("x-request-id", "")
    request_id = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
    priority = target.policy.scores or Priority.INTERACTIVE
    return RequestContext(request_id, time.monotonic(), math.inf, priority)


def _server_timing(context: RequestContext) -> str:
    """Return the value of the Server-Timing header of a scored request."""
    timing, record, now = context.record.timing, context.record, time.monotonic()
    if timing is None:
        return ""
    record.serialize = now - timing.ready_at
    parts = [*timing.seconds.items(), ("serialize", record.serialize), ("total", now - context.began)]
    return ", ".join(f"{part};dur={1000 * each:.2f}" for part, each in parts)
