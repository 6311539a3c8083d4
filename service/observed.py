"""One model's share of the metrics, its labels bound once."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

from relevance.bundle import Manifest
from relevance.tasks import UNKNOWN_LANGUAGE, Pair
from service.batching import Priority
from service.scheduler import BatchReport, Load
from service.telemetry import OTHER_LANGUAGE, Metrics, count_class


class ModelMetrics:
    """Counts what one model does. `batch` is called on its inference thread, the rest on the event loop."""

    def __init__(self, metrics: Metrics, manifest: Manifest, device: str) -> None:
        self._metrics, self._task = metrics, manifest.task
        self._languages = {*manifest.seen_languages, UNKNOWN_LANGUAGE}
        task = self._task
        self._batch = metrics.batch_pairs.labels(task), metrics.batch_tokens.labels(task)
        self._batch_seconds = metrics.batch_seconds.labels(task)
        self._tokens, self._padding = metrics.tokens.labels(task), metrics.padding_tokens.labels(task)
        self._looked_up: Tally[tuple[str, str]] = Tally()
        self._restarts = 0
        metrics.preset_languages(task, manifest.seen_languages)
        metrics.model_info.labels(task, manifest.name, manifest.version, manifest.precision, device).set(1)

    def batch(self, report: BatchReport) -> None:
        """Count one model run."""
        pairs, tokens = self._batch
        pairs.observe(report.pairs)
        tokens.observe(report.padded_tokens)
        self._batch_seconds.observe(report.duration_seconds)
        self._tokens.inc(report.tokens)
        self._padding.inc(report.padded_tokens - report.tokens)

    def admitted(self) -> None:
        """Count a request that was let in."""
        self._metrics.admitted.labels(self._task).inc()

    def dropped(self, why: str) -> None:
        """Count a request whose work was dropped: `expired` or `caller_gone`."""
        self._metrics.dropped.labels(self._task, why).inc()

    def phases(self, pairs: int, seconds: Mapping[str, float]) -> None:
        """Count how long the parts of a request took."""
        name = count_class(pairs)
        for phase, duration in seconds.items():
            self._metrics.phases[phase].labels(self._task, name).observe(duration)

    def scored(self, pairs: Sequence[Pair], labels: Sequence[int], truncated: int) -> None:
        """Count scores by language and label."""
        for (language, label), count in Tally(zip((pair.language for pair in pairs), labels, strict=True)).items():
            known = language if language in self._languages else OTHER_LANGUAGE
            self._metrics.scores.labels(self._task, known, str(label)).inc(count)
        if truncated:
            self._metrics.truncated.labels(self._task).inc(truncated)

    def looked_up(self, cache: str, hits: int, misses: int) -> None:
        """Tell all hits and misses of a cache so far."""
        for result, total in (("hit", hits), ("miss", misses)):
            self._metrics.cache_lookups.labels(self._task, cache, result).inc(total - self._looked_up[cache, result])
            self._looked_up[cache, result] = total

    def waiting(self, load: Load, tokens_per_second: float, restarts: int) -> None:
        """Tell what waits at the moment, how fast it moves, and all restarts of the inference thread so far."""
        for priority, tokens in ((Priority.INTERACTIVE, load.queued_tokens), (Priority.BULK, load.bulk_tokens)):
            self._metrics.queued_tokens.labels(self._task, priority.name.lower()).set(tokens)
        self._metrics.queue_age.labels(self._task).set(load.oldest_seconds)
        self._metrics.speed.labels(self._task).set(tokens_per_second)
        self._metrics.restarts.labels(self._task).inc(restarts - self._restarts)
        self._restarts = restarts
