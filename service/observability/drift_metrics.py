"""Prometheus collectors of scores and their drift. They read the counts at each scrape. Knows no models."""

from collections.abc import Iterator

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relevance.evaluation.metrics import HISTOGRAM_BINS
from relevance.tasks import Task
from service.observability.drift import Drift
from service.observability.score_histogram import Counts

BUCKETS = tuple((place + 1) / HISTOGRAM_BINS for place in range(HISTOGRAM_BINS))
BOUNDS = (*map(floatToGoString, BUCKETS), "+Inf")


class ScoreHistogramCollector(Collector):
    """A Prometheus histogram by task and language that adds many observations at once. The library's adds one.

    `add` is for one thread. A scrape, and a model that is loaded, run on others: series are replaced, never changed.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._series: dict[tuple[str, str], tuple[Counts, float]] = {}

    def create(self, task: str, language: str) -> None:
        """Create the series of a task and language at 0."""
        self._series.setdefault((task, language), (np.zeros(HISTOGRAM_BINS, dtype=np.int64), 0.0))

    def add(self, task: str, language: str, counts: Counts, total: float) -> None:
        """Add observations in [0, 1]: their counts [HISTOGRAM_BINS] and their sum."""
        self.create(task, language)
        before, sum_before = self._series[task, language]
        self._series[task, language] = before + counts, sum_before + total

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        family = HistogramMetricFamily(self._name, self._text, labels=("task", "language"))
        for labels, (counts, total) in list(self._series.items()):
            cumulative = [*np.cumsum(counts).tolist(), int(counts.sum())]
            family.add_metric(labels, list(zip(BOUNDS, cumulative, strict=True)), total)
        yield family


class DriftMetrics(Collector):
    """Scores by language, and the drift of recent scores from the bundle's dev set."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.scores = ScoreHistogramCollector("relevance_score", "Scores returned")
        self._drifts: dict[Task, Drift] = {}
        registry.register(self.scores)
        registry.register(self)

    def set_active(self, task: Task, drift: Drift) -> None:
        """Report the window of the active model from now on."""
        self._drifts[task] = drift

    def collect(self) -> Iterator[Metric]:
        """Yield the population stability indices of the active models."""
        scores = GaugeMetricFamily(
            "relevance_score_psi",
            "Population stability index of recent scores against the dev set",
            labels=("task", "language"),
        )
        mix = GaugeMetricFamily(
            "relevance_language_mix_psi",
            "Population stability index of recent languages against the dev set",
            labels=("task",),
        )
        for task, drift in list(self._drifts.items()):
            seen = drift.seen()
            for language, index in drift.reference.score_psi(seen).items():
                scores.add_metric((task, language), index)
            if (index_of_mix := drift.reference.mix_psi(seen)) is not None:
                mix.add_metric((task,), index_of_mix)
        yield from (scores, mix)
