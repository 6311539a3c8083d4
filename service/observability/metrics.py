"""The Prometheus metrics of one service. Every series exists before the first request. Knows no models."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest

from relevance.tasks import UNKNOWN_LANGUAGE, Task
from service.observability.cascade_metrics import CascadeMetrics
from service.observability.change_metrics import ChangeMetrics
from service.observability.drift_metrics import DriftMetrics
from service.observability.families import MetricFamilies
from service.observability.feedback_metrics import FeedbackMetrics
from service.observability.gpu import GpuCollector
from service.observability.score_histogram import OTHER_LANGUAGE

# Dense from 1 to 100 ms, where latency targets are.
SECONDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06),
    *(0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
# Fewer buckets for the parts of requests: there is a series for each part, route and class.
PART_SECONDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.08, 0.1),
    *(0.25, 0.5, 1.0, 5.0),
)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
COUNT_CLASSES = {1: "1", 10: "2-10", 50: "11-50", 100: "51-100", 500: "101-500"}
TOP_CLASS = "501+"
MODEL_LABELS = ("task", "name", "version", "precision", "device", "runtime", "role")
NO_PAIRS = "0"  # the class of requests without scores
PHASES = ("queue", "tokenize", "run", "serialize")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")


def count_class(pairs: int) -> str:
    """Return the value of the label `pairs` for a request with this many pairs."""
    return next((name for limit, name in COUNT_CLASSES.items() if pairs <= limit), TOP_CLASS) if pairs else NO_PAIRS


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(
        self, tasks: Iterable[Task], routes: Iterable[str], scoring: Iterable[str], timed: Iterable[str]
    ) -> None:
        """Register all series at 0.

        `routes` are the values of the label `route`, `scoring` those that score, and `timed` the scoring routes whose
        parts get series now. Other routes get them with their first request, which keeps a scrape small.
        """
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        if (gpus := GpuCollector.of_machine()) is not None:
            registry.register(gpus)
        new = MetricFamilies(registry)
        self.requests = new.counter("requests", "Requests answered, by status", "route", "status")
        of_request = "route", "task", "pairs"
        self.request_seconds = new.histogram(
            "request_duration_seconds", "Time from the first byte in to the last byte out", SECONDS, *of_request
        )
        self.phases = {
            phase: new.histogram(
                f"{phase}_duration_seconds", f"Time of a scoring request in the part {phase}", PART_SECONDS, *of_request
            )
            for phase in PHASES
        }
        self.rejections = new.counter("rejections", "Requests answered with a problem, by reason", "reason")
        self.admitted = new.counter("admitted_requests", "Requests admitted for scoring", "task")
        self.dropped = new.counter("dropped_requests", "Admitted requests whose work was dropped", "task", "why")
        self.batch_seconds = new.histogram("batch_duration_seconds", "Duration of a model run", SECONDS, "task")
        self.batch_pairs = new.histogram("batch_pairs", "Pairs in a model run", PAIRS, "task")
        self.batch_tokens = new.histogram("batch_tokens", "Padded tokens in a model run", TOKENS, "task")
        self.tokens = new.counter("tokens", "Tokens run, without padding", "task")
        self.padding_tokens = new.counter("padding_tokens", "Padding tokens run", "task")
        self.scores = new.counter("scores", "Scores returned", "task", "language", "label")
        self.truncated = new.counter("truncated_pairs", "Pairs truncated to the model's maximum length", "task")
        self.unscored = new.counter("unscored_pairs", "Pairs that partial answers left out", "task")
        self.unknown_tokens = new.counter(
            "unknown_tokens", "Unknown tokens: text that is not in the model's vocabulary", "task"
        )
        self.cache_lookups = new.counter("cache_lookups", "Cache lookups, by result", "task", "cache", "result")
        self.restarts = new.counter("inference_restarts", "Restarts of inference threads", "task")
        self.queued_tokens = new.gauge(
            "queued_tokens", "Backlog: tokens admitted and not yet scored", "task", "priority"
        )
        self.queue_age = new.gauge("oldest_wait_seconds", "Age of the oldest waiting request", "task")
        self.throughput = new.gauge("tokens_per_second", "Recent throughput of the model", "task")
        self.model_info = new.gauge("model_info", "1 for each loaded model", *MODEL_LABELS)
        self.resident = new.gauge("resident_memory_bytes", "Resident memory of the process")
        self.memory_limit = new.gauge("memory_limit_bytes", "Memory limit of the process")
        self.ready = new.gauge("ready", "1 if /readyz answers 200, else 0")
        tasks = list(tasks)
        self.changes = ChangeMetrics(tasks, SECONDS, new)
        self.cascade = CascadeMetrics(PART_SECONDS, new)
        self.drift = DriftMetrics(registry)
        self.feedback = FeedbackMetrics(new)
        for route in routes:
            self.requests.labels(route, "200")
            self.request_seconds.labels(route, "", NO_PAIRS)
        self._create_durations(tasks, (self.request_seconds,), scoring)
        self._create_durations(tasks, self.phases.values(), timed)
        self._create_task_series(tasks)

    def _create_durations(self, tasks: list[Task], metrics: Iterable[Histogram], routes: Iterable[str]) -> None:
        for labels in itertools.product(routes, tasks, (*COUNT_CLASSES.values(), TOP_CLASS)):
            for metric in metrics:
                metric.labels(*labels)

    def _create_task_series(self, tasks: list[Task]) -> None:
        for task in tasks:
            for metric in (self.batch_seconds, self.batch_pairs, self.batch_tokens, self.tokens, self.padding_tokens):
                metric.labels(task)
            for single in (self.truncated, self.unscored, self.unknown_tokens, self.admitted, self.restarts):
                single.labels(task)
            for state in (self.queue_age, self.throughput):
                state.labels(task)
            for why in ("expired", "caller_gone"):
                self.dropped.labels(task, why)
            for cache in ("tokens", "scores"):
                for result in ("hit", "miss"):
                    self.cache_lookups.labels(task, cache, result)
            for priority in ("interactive", "bulk"):
                self.queued_tokens.labels(task, priority)
            self.create_languages(task, ())

    def preset_reasons(self, reasons: Iterable[str], statuses: Iterable[int], scoring: Iterable[str]) -> None:
        """Create the series of the reasons of problems, and of the statuses that scoring routes can answer."""
        for reason in reasons:
            self.rejections.labels(reason)
        for route in scoring:
            for status in statuses:
                self.requests.labels(route, str(status))

    def create_languages(self, task: Task, languages: Iterable[str]) -> None:
        """Create the series of the languages that a model knows. All other languages count as one."""
        for language in (*languages, UNKNOWN_LANGUAGE, OTHER_LANGUAGE):
            self.drift.scores.create(task, language)
            for label in ("0", "1"):
                self.scores.labels(task, language, label)

    def page(self) -> bytes:
        """Return all metrics in the Prometheus text format: the answer to a scrape."""
        return generate_latest(self.registry)


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes. 0: the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def memory_limit_bytes(of_container: Path = CONTAINER_MEMORY) -> int:
    """Return the memory limit of this container in bytes, at most the memory of the machine."""
    machine = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    try:
        return min(machine, int(of_container.read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return machine
