"""The counts of a client's re-ranking calls as Prometheus metrics. Needs the package prometheus-client; knows no HTTP.

prometheus_client.REGISTRY.register(RerankCollector(client))
"""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from relevance.client.rerank import RerankStats


class Reranks(Protocol):
    """A `Client` or `AsyncClient`."""

    @property
    def rerank_stats(self) -> RerankStats:
        """The counts so far."""


class RerankCollector(Collector):
    """Shows the counts of a client at each scrape; every outcome has a series from the start."""

    def __init__(self, client: Reranks) -> None:
        self._client = client

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield `relevance_client_reranks_total` by outcome and `relevance_client_hedges_total`."""
        stats = self._client.rerank_stats
        calls = CounterMetricFamily("relevance_client_reranks", "Re-ranking calls, by outcome", labels=["outcome"])
        for outcome, count in stats.outcomes.items():
            calls.add_metric([outcome], count)
        yield calls
        yield CounterMetricFamily("relevance_client_hedges", "Requests sent a second time", value=stats.hedges)
