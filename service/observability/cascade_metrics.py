"""Metrics of cascades: how many pairs each stage answers, and how long requests spend in it. Knows no models."""

from collections.abc import Sequence

from service.observability.families import MetricFamilies

# The parts of each stage. Tokenising for the small model is counted with the request itself.
PARTS = {"small": ("queue", "run"), "large": ("queue", "tokenize", "run")}


class CascadeMetrics:
    """The series of a task exist from when its first cascade is loaded."""

    def __init__(self, seconds: Sequence[float], new: MetricFamilies) -> None:
        """Register the metrics; `seconds` are the buckets of durations."""
        self.pairs = new.counter("cascade_pairs", "Pairs of a cascade, by the stage that answers", "task", "stage")
        self.seconds = new.histogram(
            "cascade_stage_duration_seconds", "Time of a request in a part of a stage", seconds, "task", "stage", "part"
        )

    def create(self, task: str) -> None:
        """Create the series of a task."""
        for stage, parts in PARTS.items():
            self.pairs.labels(task, stage)
            for part in parts:
                self.seconds.labels(task, stage, part)
