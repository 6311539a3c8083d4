"""The metrics of scores and their drift.

Workers share counts and not indices: the index of all their scores is not the sum, mean or largest of their own. So
each tells its window as gauges, and the page shows what follows from the sum of these in their place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from relevance.metrics import HISTOGRAM_BINS
from relevance.tasks import Task
from service.drift import Drift, Reference
from service.tally import Counts

WINDOW = "relevance_score_window"
TWENTIETHS = tuple((place + 1) / HISTOGRAM_BINS for place in range(HISTOGRAM_BINS))


class ScoreHistogram(Histogram):
    """A histogram that takes in many observations at once, which prometheus_client's own does not."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Count observations by bucket, the one without a bound left out, and their sum."""
        for bucket, count in zip(self._buckets, counts, strict=False):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Source(Protocol):
    """Where metrics come from: a registry, or the files of several workers."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""


class DriftMetrics:
    """Scores by language, and how far those of late are from the bundle's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = "task", "language"
        self.scores = ScoreHistogram("relevance_score", "Scores given", labels, registry=registry, buckets=TWENTIETHS)
        self._window = Gauge(WINDOW, "", (*labels, "bin"), registry=registry, multiprocess_mode="livesum")
        self._shown: dict[Task, dict[tuple[str, int], Gauge]] = {}
        self._references: dict[Task, Reference] = {}

    def show(self, task: Task, drift: Drift) -> None:
        """Tell the window of the model that is active."""
        shown = self._shown.setdefault(task, {})
        rows = {(name, place): n for name, counts in drift.seen().items() for place, n in enumerate(counts.tolist())}
        for key in rows.keys() - shown.keys():
            shown[key] = self._window.labels(task, key[0], str(key[1]))
        for key, gauge in shown.items():
            gauge.set(rows.get(key, 0))  # a model before this one may have told of other languages
        self._references[task] = drift.reference

    def page_of(self, source: Source) -> Collector:
        """Return the metrics of a source, the indices in place of the windows."""
        return _Page(source, dict(self._references))


class _Page(Collector):
    """Metrics of a source with the population stability indices of their windows."""

    def __init__(self, source: Source, references: Mapping[Task, Reference]) -> None:
        self._source, self._references = source, references

    def collect(self) -> Iterator[Metric]:
        window: dict[str, dict[str, dict[int, int]]] = {}
        for metric in self._source.collect():
            if metric.name != WINDOW:
                yield metric
                continue
            for sample in metric.samples:
                of_task = window.setdefault(sample.labels["task"], {})
                of_task.setdefault(sample.labels["language"], {})[int(sample.labels["bin"])] = int(sample.value)
        yield from self._indices(window)

    def _indices(self, window: Mapping[str, Mapping[str, Mapping[int, int]]]) -> Iterator[Metric]:
        scores = GaugeMetricFamily(
            "relevance_score_psi", "Population stability index of the scores of late", labels=("task", "language")
        )
        mix = GaugeMetricFamily("relevance_language_mix_psi", "The same of their languages", labels=("task",))
        for task, reference in self._references.items():
            seen = {name: _counts(rows, reference, name) for name, rows in window.get(task, {}).items()}
            for language, index in reference.score_psi(seen).items():
                scores.add_metric((task, language), index)
            if (index_of_mix := reference.mix_psi(seen)) is not None:
                mix.add_metric((task,), index_of_mix)
        yield from (scores, mix)


def _counts(rows: Mapping[int, int], reference: Reference, language: str) -> Counts:
    """Return the counts of a language's bins; what a model before this one told of further bins is 0."""
    bins = len(reference.scores[language].rows) if language in reference.scores else 1
    return np.array([rows.get(place, 0) for place in range(bins)], dtype=np.int64)
