"""One model's share of the metrics, its labels bound once."""

from collections import Counter as Tally
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from relevance.bundle import Manifest
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.observability.score_histogram import Flags, Floats, ScoreHistogram
from service.scheduling.batching import Priority
from service.scheduling.scheduler import BatchReport, Load


class Role(StrEnum):
    """What a loaded model is there for."""

    ACTIVE = "active"
    PREVIOUS = "previous"
    CHALLENGER = "challenger"


class ModelMetrics:
    """Counts what one model does for callers. `batch` is called on its inference thread, the rest on the event loop."""

    def __init__(self, metrics: Metrics, manifest: Manifest, device: str) -> None:
        self._metrics, self._task = metrics, manifest.task
        task = self._task
        self._batch = metrics.batch_pairs.labels(task), metrics.batch_tokens.labels(task)
        self._batch_seconds = metrics.batch_seconds.labels(task)
        self._tokens, self._padding = metrics.tokens.labels(task), metrics.padding_tokens.labels(task)
        self._role: Role | None = None
        self._answers = True  # what it scores goes to callers, and so into the metrics
        self._info = (task, manifest.name, manifest.version, manifest.precision, device)
        self._looked_up: Tally[tuple[str, str]] = Tally()
        self._restarts = self._unknown_tokens = 0
        known = sorted({*manifest.seen_languages, *manifest.dev_rows})
        self._histogram = ScoreHistogram(known)
        metrics.create_languages(task, known)

    def play(self, role: Role | None, answers: bool = True) -> None:
        """Tell what the model is there for from now on; None: it is gone. What does not answer is not counted."""
        info = self._metrics.model_info
        if self._role is not None:
            info.remove(*self._info, self._role)
        self._role, self._answers = role, answers
        if role is not None:
            info.labels(*self._info, role).set(1)

    def batch(self, report: BatchReport) -> None:
        """Count one model run."""
        if not self._answers:
            return
        pairs, tokens = self._batch
        pairs.observe(report.pairs)
        tokens.observe(report.padded_tokens)
        self._batch_seconds.observe(report.duration_seconds)
        self._tokens.inc(report.tokens)
        self._padding.inc(report.padded_tokens - report.tokens)

    def admitted(self) -> None:
        """Count a request that was let in."""
        if self._answers:
            self._metrics.admitted.labels(self._task).inc()

    def dropped(self, why: str) -> None:
        """Count a request whose work was dropped: `expired` or `caller_gone`."""
        if self._answers:
            self._metrics.dropped.labels(self._task, why).inc()

    @property
    def languages(self) -> Sequence[str]:
        """The languages that are told apart."""
        return self._histogram.languages

    def scored(self, languages: Sequence[str], scores: Floats, labels: Flags, truncated: int) -> None:
        """Count scores [N] by language and label; they are in the metrics with the next call of `told`."""
        if not self._answers:
            return
        self._histogram.add(languages, scores, labels)
        if truncated:
            self._metrics.truncated.labels(self._task).inc(truncated)

    def looked_up(self, cache: str, hits: int, misses: int) -> None:
        """Tell all hits and misses of a cache so far."""
        for result, total in (("hit", hits), ("miss", misses)):
            fresh, self._looked_up[cache, result] = total - self._looked_up[cache, result], total
            if self._answers:
                self._metrics.cache_lookups.labels(self._task, cache, result).inc(fresh)

    def told(self, drift: Drift, unknown_tokens: int) -> None:
        """Pass on the scores given since the last call, and tell all unknown tokens so far."""
        counts, sums = self._histogram.take()
        both = counts.sum(axis=1)
        drift.add(both)
        for row in np.flatnonzero(both.any(axis=1)).tolist():
            language = self._histogram.languages[row]
            self._metrics.drift.scores.add(self._task, language, both[row], float(sums[row]))
            for label, count in enumerate(counts[row].sum(axis=1).tolist()):
                self._metrics.scores.labels(self._task, language, str(label)).inc(count)
        if self._role is Role.ACTIVE:
            self._metrics.drift.set_active(self._task, drift)
        fresh, self._unknown_tokens = unknown_tokens - self._unknown_tokens, unknown_tokens
        if self._answers:
            self._metrics.unknown_tokens.labels(self._task).inc(fresh)

    def waiting(self, load: Load, tokens_per_second: float, restarts: int) -> None:
        """Tell what waits at the active model, how fast it moves, and all restarts of the inference thread so far."""
        if self._role is not Role.ACTIVE:
            return
        for priority, tokens in ((Priority.INTERACTIVE, load.queued_tokens), (Priority.BULK, load.bulk_tokens)):
            self._metrics.queued_tokens.labels(self._task, priority.name.lower()).set(tokens)
        self._metrics.queue_age.labels(self._task).set(load.oldest_seconds)
        self._metrics.throughput.labels(self._task).set(tokens_per_second)
        self._metrics.restarts.labels(self._task).inc(restarts - self._restarts)
        self._restarts = restarts
