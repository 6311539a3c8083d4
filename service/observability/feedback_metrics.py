"""Prometheus metrics of the feedback log. Knows no files."""

from relevance.feedback import Kind
from service.observability.families import MetricFamilies

REASONS = ("queue_full", "write_failed", "folder_full", "fault")


class FeedbackMetrics:
    """Counts lines that were written, and entries that were dropped."""

    def __init__(self, new: MetricFamilies) -> None:
        """Register all series at 0."""
        self.written = new.counter("feedback_lines", "Lines written to the feedback log", "kind")
        self._dropped = new.counter("feedback_dropped", "Requests and calls the feedback log dropped", "kind", "why")
        for kind in Kind:
            self.written.labels(kind)
            for why in REASONS:
                self._dropped.labels(kind, why)

    def drop(self, kind: Kind, why: str) -> None:
        """Count a request, or a call with feedback, that is not in the log."""
        self._dropped.labels(kind, why).inc()
