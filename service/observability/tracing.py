"""Sends OpenTelemetry spans of requests to a collector, if `otlp_endpoint` is set. Knows no models and no scheduling.

A request is one span, made after its answer, with one child span for each part: admit, tokenize, queue, run, serialize.
(If several runs scored a request, queue is all its waiting time and run all its run time.) A span never holds a query,
a candidate or a body. Without `otlp_endpoint`, OpenTelemetry is not imported.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from relevance.errors import ConfigError, MachineError
from relevance.version import project_version
from service.settings import Settings

log = logging.getLogger(__name__)

TRACES_PATH = "/v1/traces"
EXPORT_SECONDS = 5.0  # for one batch of spans
CLOSE_SECONDS = 5.0
PARENT_HEADERS = ("traceparent", "tracestate")
HEADER_VARIABLES = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
HEADER_NAME, HEADER_VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[ -~]*")
SCORING_PARTS = ("tokenize", "queue", "run")


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered. Times are of `time.monotonic`.

    `seconds` are the durations of its parts and `scored_at` the time its scores were ready; None if it was not scored.
    """

    method: str
    route: str
    status: int
    began: float
    ended: float
    headers: Mapping[str, str]
    notes: Mapping[str, str | int]
    seconds: Mapping[str, float] | None = None
    scored_at: float | None = None

    def parts(self) -> Iterator[tuple[str, float, float]]:
        """Yield name, begin and end of the parts of a scored request."""
        if self.seconds is None or self.scored_at is None:
            return
        lengths = [self.seconds.get(part, 0.0) for part in SCORING_PARTS]
        at = max(self.began, self.scored_at - sum(lengths))
        yield "admit", self.began, at
        for part, length in zip(SCORING_PARTS, lengths, strict=True):
            yield part, at, at + length
            at += length
        yield "serialize", self.scored_at, self.ended


class Tracer:
    """Traces a share of the requests, and those whose caller asks for it in `traceparent`."""

    def __init__(self, processor: Any, share: float) -> None:
        """Send spans to a span processor of the SDK."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about = {"service.name": "relevance", "service.version": project_version()}
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share), resource=Resource.create(about), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("relevance.service")
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)  # its warnings quote the headers of callers
        self._context_of = TraceContextTextMapPropagator().extract

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """Return a tracer for the collector of the settings, or None without one.

        Raises MachineError where the packages are missing, and ConfigError for headers that cannot be sent.
        """
        if settings.otlp_endpoint is None:
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise MachineError(
                f"otlp_endpoint {settings.otlp_endpoint}: the package {error.name} is missing; expected the extra "
                "`tracing` (pip install '.[tracing]' in a clone), or no otlp_endpoint"
            ) from None
        _check_headers(os.environ)
        base = settings.otlp_endpoint.rstrip("/").removesuffix(TRACES_PATH)
        exporter = OTLPSpanExporter(endpoint=base + TRACES_PATH, timeout=EXPORT_SECONDS)
        log.info("requests are traced", extra={"endpoint": base + TRACES_PATH, "share": settings.trace_share})
        return cls(BatchSpanProcessor(exporter), settings.trace_share)

    def record(self, answered: Answered) -> str | None:
        """Record the spans of a request and return its trace id. None: the request is not sampled."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        def at(moment: float) -> int:
            return since_epoch + int(moment * 1e9)

        since_epoch = time.time_ns() - time.monotonic_ns()
        parent = {name: answered.headers[name] for name in PARENT_HEADERS if name in answered.headers}
        span = self._tracer.start_span(
            f"{answered.method} {answered.route}",
            self._context_of(parent),
            SpanKind.SERVER,
            {"http.request.method": answered.method, "http.route": answered.route},
            start_time=at(answered.began),
        )
        if not span.is_recording():
            return None
        notes = {f"relevance.{name}": value for name, value in answered.notes.items()}
        notes["http.response.status_code"] = answered.status
        span.set_attributes(notes)
        if answered.status >= 500:
            span.set_status(StatusCode.ERROR)
        below = set_span_in_context(span)
        for name, begin, end in answered.parts():
            self._tracer.start_span(name, below, attributes=notes, start_time=at(begin)).end(at(end))
        span.end(at(answered.ended))
        return format(span.get_span_context().trace_id, "032x")

    def close(self) -> None:
        """Send the remaining spans and stop. Gives up after CLOSE_SECONDS if the collector does not answer."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def _check_headers(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for malformed headers of the exporter: its own warnings would quote their values."""
    for variable in HEADER_VARIABLES:
        for entry in filter(str.strip, environment.get(variable, "").split(",")):
            name, equals, value = entry.partition("=")
            if not (equals and HEADER_NAME.fullmatch(name.strip()) and HEADER_VALUE.fullmatch(unquote(value.strip()))):
                raise ConfigError(
                    f"{variable} (not shown): an entry is no header; expected NAME=VALUE,NAME=VALUE, header values of "
                    "printable ASCII, percent-encoded if they hold a comma"
                )
