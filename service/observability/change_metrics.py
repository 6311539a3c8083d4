"""Prometheus metrics of model changes and of challengers in shadow mode. Knows neither rollouts nor models."""

from collections.abc import Iterable

from relevance.tasks import Task
from service.observability.families import MetricFamilies

RESULTS = ("switched", "refused", "rolled_back", "promoted")
SHIFTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


class ChangeMetrics:
    """Counts model changes, and how a challenger's scores differ from the active model's on the same pairs."""

    def __init__(self, tasks: Iterable[Task], seconds: Iterable[float], new: MetricFamilies) -> None:
        """Register all series at 0. `seconds` are the buckets of durations."""
        self.changes = new.counter("model_changes", "Model changes by result", "task", "result")
        self.pairs = new.counter("shadow_pairs", "Pairs scored by a challenger in shadow mode", "task")
        self.disagreements = new.counter(
            "shadow_disagreements", "Pairs that the challenger labels differently from the active model", "task"
        )
        self.shift = new.histogram(
            "shadow_score_shift", "Absolute difference between the two scores of a pair", SHIFTS, "task"
        )
        self.dropped = new.counter(
            "shadow_dropped_requests", "Requests the challenger dropped because it was busy or failed", "task"
        )
        self.run_seconds = new.histogram(
            "shadow_run_duration_seconds", "Model run time of a request in shadow mode", seconds, "task"
        )
        for task in tasks:
            for result in RESULTS:
                self.changes.labels(task, result)
            for metric in (self.pairs, self.disagreements, self.shift, self.dropped, self.run_seconds):
                metric.labels(task)
