"""What is reported of each request when it has ended, once: metrics, one log line, and spans where it is traced."""

import logging
import time
from typing import Any, Protocol

from starlette.requests import Request

from service.api.context import context_of
from service.api.policy import Target
from service.lifecycle.service import Service
from service.observability.metrics import count_class
from service.observability.tracing import Answered, Tracer
from service.scoring.request_context import RequestContext

log = logging.getLogger("service.requests")
admin_log = logging.getLogger("service.api.admin")


class Recorder(Protocol):
    """Reports requests that have ended."""

    def __call__(self, request: Request, target: Target, status: int) -> None:
        """Report a request that was answered with `status`."""


class RequestRecorder:
    """Reports the requests of callers."""

    def __init__(self, service: Service) -> None:
        self._service, self._metrics = service, service.metrics

    def __call__(self, request: Request, target: Target, status: int) -> None:
        """Count a request, write its log line, and make its spans."""
        context, ended = context_of(request), time.monotonic()
        record, seconds = context.record, ended - context.began
        self._count(context, target, status, seconds)
        tracer = self._service.tracer
        if tracer is not None and target.policy.traced:
            record.trace_id = _trace(tracer, request, target, status, ended)
        line: dict[str, Any] = {"request_id": context.request_id, "method": request.method, "route": target.label}
        line |= {"status": status, "duration_ms": round(1000 * seconds, 2)}
        line |= {"reason": record.reason} if record.reason else {}
        quiet = target.policy.quiet and status < 500
        log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=line | record.log_fields())

    def _count(self, context: RequestContext, target: Target, status: int, seconds: float) -> None:
        record, route = context.record, target.label
        pairs = (record.pairs or 0) if status == 200 else 0
        task = record.task if pairs and record.task else ""
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route, task, count_class(pairs)).observe(seconds)
        if record.reason and target.policy.scores is not None:
            self._metrics.rejections.labels(record.reason).inc()
        if record.timing is not None and record.serialize is not None and record.task is not None:
            parts, pairs_class = record.timing.seconds | {"serialize": record.serialize}, count_class(record.pairs or 0)
            for part, duration in parts.items():
                self._metrics.phases[part].labels(route, record.task, pairs_class).observe(duration)


def record_admin_request(request: Request, target: Target, status: int) -> None:
    """Write the log line of a request to the admin interface; callers' metrics do not count it."""
    context = context_of(request)
    line: dict[str, Any] = {"request_id": context.request_id, "method": request.method, "path": target.path[:200]}
    line |= {"status": status, "duration_ms": round(1000 * (time.monotonic() - context.began), 2)}
    line |= context.record.log_fields()
    quiet = target.policy.quiet and status < 500
    admin_log.log(logging.DEBUG if quiet else logging.INFO, "admin request", extra=line)


def _trace(tracer: Tracer, request: Request, target: Target, status: int, ended: float) -> str | None:
    """Make the spans of a request and return the id of its trace, None where it is not sampled."""
    context = context_of(request)
    record = context.record
    notes = {"request_id": context.request_id} | record.log_fields()
    if record.reason:
        notes["reason"] = record.reason
    timing = record.timing
    answered = Answered(
        request.method,
        target.label,
        status,
        context.began,
        ended,
        request.headers,
        notes,
        timing.seconds if timing is not None else None,
        timing.ready_at if timing is not None else None,
    )
    return tracer.record(answered)
