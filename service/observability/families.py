"""Creates Prometheus metrics with the prefix `relevance_` in one registry. Knows no metric by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "relevance_"


@dataclass(frozen=True, slots=True)
class MetricFamilies:
    """Makes metrics; `text` is the help that a scrape shows."""

    registry: CollectorRegistry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Register a counter."""
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Register a gauge."""
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        """Register a histogram with these upper bounds of its buckets."""
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=tuple(buckets))
