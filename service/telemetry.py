"""What the operator sees: Prometheus metrics, and logs as JSON lines. Never a query or a candidate."""

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from relevance.tasks import Task
from service.scheduler import BatchReport

# Dense from 1 to 100 ms, where the latency targets are.
SECONDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.0175, 0.02, 0.025, 0.03, 0.035, 0.04),
    *(0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class Metrics:
    """The metrics of one app, in a registry of their own; every series is there before the first request."""

    def __init__(self, tasks: Iterable[Task], routes: Iterable[str], reasons: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"relevance_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"relevance_{name}", text, labels, registry=registry, buckets=tuple(buckets))

        self.requests = counter("requests", "Requests answered", "route", "status")
        self.request_seconds = histogram("request_duration_seconds", "From first byte in to last out", SECONDS, "route")
        self.rejections = counter("rejections", "Requests answered with a problem", "reason")
        self.tokenization_seconds = histogram("tokenization_duration_seconds", "Formatting, tokens", SECONDS, "task")
        self.run_seconds = histogram("run_duration_seconds", "One model run", SECONDS, "task")
        self.batch_pairs = histogram("batch_pairs", "Pairs in a model run", PAIRS, "task")
        self.batch_tokens = histogram("batch_tokens", "Padded tokens in a model run", TOKENS, "task")
        self.tokens = counter("tokens", "Tokens scored, without padding", "task")
        self.padding_tokens = counter("padding_tokens", "Tokens of padding that were run", "task")
        self.scores = counter("scores", "Scores given", "task", "label")
        self.truncated = counter("truncated_pairs", "Pairs cut to the model's length", "task")
        self.queued_tokens = Gauge("relevance_queued_tokens", "Tokens not yet scored", ["task"], registry=registry)
        self.ready = Gauge("relevance_ready", "1 where /readyz says 200", registry=registry)
        self._preset(tasks, routes, reasons)

    def batch_observer(self, task: Task) -> "BatchObserver":
        """Return what a task's scheduler calls after each model run."""
        return BatchObserver(self, task)

    def _preset(self, tasks: Iterable[Task], routes: Iterable[str], reasons: Iterable[str]) -> None:
        for route in routes:
            self.requests.labels(route, "200")
            self.request_seconds.labels(route)
        for reason in reasons:
            self.rejections.labels(reason)
        for task in tasks:
            for histogram in (self.tokenization_seconds, self.run_seconds, self.batch_pairs, self.batch_tokens):
                histogram.labels(task)
            for counter in (self.tokens, self.padding_tokens, self.truncated):
                counter.labels(task)
            self.queued_tokens.labels(task)
            for label in ("0", "1"):
                self.scores.labels(task, label)


class BatchObserver:
    """Counts one task's model runs; called on its inference thread."""

    def __init__(self, metrics: Metrics, task: Task) -> None:
        self._pairs, self._tokens = metrics.batch_pairs.labels(task), metrics.batch_tokens.labels(task)
        self._seconds = metrics.run_seconds.labels(task)
        self._scored, self._padding = metrics.tokens.labels(task), metrics.padding_tokens.labels(task)

    def __call__(self, report: BatchReport) -> None:
        """Count one model run."""
        self._pairs.observe(report.pairs)
        self._tokens.observe(report.padded_tokens)
        self._seconds.observe(report.duration_seconds)
        self._scored.inc(report.tokens)
        self._padding.inc(report.padded_tokens - report.tokens)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _PLAIN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(level: str) -> None:
    """Send all logs of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel("WARNING")
