"""The metrics of model changes and of challengers that score in the shadow. Every series is there from the start."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from relevance.tasks import Task

RESULTS = ("switched", "refused", "rolled_back", "promoted")
SHIFTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


class ChangeMetrics:
    """Counts changes of models, and how a challenger's scores differ from the active model's on the same pairs."""

    def __init__(self, tasks: Iterable[Task], seconds: Iterable[float], registry: CollectorRegistry) -> None:
        """Register everything; `seconds` are the buckets of durations."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"relevance_{name}", text, ("task", *labels), registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(f"relevance_{name}", text, ("task",), registry=registry, buckets=tuple(buckets))

        self.changes = counter("model_changes", "Changes of models, by how they ended", "result")
        self.pairs = counter("shadow_pairs", "Pairs that a challenger has scored in the shadow")
        self.disagreements = counter("shadow_disagreements", "Those of them that it labels differently")
        self.shift = histogram("shadow_score_shift", "By how much its score of a pair differs", SHIFTS)
        self.dropped = counter("shadow_dropped_requests", "Requests that it was too late for, or failed on")
        self.run_seconds = histogram("shadow_run_duration_seconds", "Model runs of a request in the shadow", seconds)
        for task in tasks:
            for result in RESULTS:
                self.changes.labels(task, result)
            for metric in (self.pairs, self.disagreements, self.shift, self.dropped, self.run_seconds):
                metric.labels(task)
