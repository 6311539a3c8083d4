"""Records what one model does in the service's metrics, with its labels. Knows no requests and no HTTP."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from relevance.model.bundle import Manifest
from service.observability.cascade_metrics import PARTS
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.observability.score_histogram import Flags, Floats, ScoreHistogram
from service.scheduling.job import Priority
from service.scheduling.scheduler import Backlog, BatchReport
from service.scoring.stage import Run


class Role(StrEnum):
    """What a loaded model is used for."""

    ACTIVE = "active"
    PREVIOUS = "previous"
    CHALLENGER = "challenger"


class ModelMetrics:
    """Counts what one model does for callers. `record_batch` runs on inference threads, the rest on the event loop."""

    def __init__(self, metrics: Metrics, manifest: Manifest, device: str, runtime: str) -> None:
        self._metrics, self._task = metrics, manifest.task
        task = self._task
        self._batch = metrics.batch_pairs.labels(task), metrics.batch_tokens.labels(task)
        self._batch_seconds = metrics.batch_seconds.labels(task)
        self._tokens, self._padding = metrics.tokens.labels(task), metrics.padding_tokens.labels(task)
        self._role: Role | None = None
        self._answers = True  # only models that answer callers are counted
        self._info = (task, manifest.name, manifest.version, manifest.precision, device, runtime)
        self._cache_lookups: Counter[tuple[str, str]] = Counter()
        self._restarts = self._unknown_tokens = 0
        known = sorted({*manifest.seen_languages, *manifest.dev_rows})
        self._histogram = ScoreHistogram(known)
        metrics.create_languages(task, known)
        if manifest.cascade is not None:
            metrics.cascade.create(task)

    def set_role(self, role: Role | None, answers: bool = True) -> None:
        """Set the model's role label; None removes it. A model that does not answer callers is not counted."""
        info = self._metrics.model_info
        if self._role is not None:
            info.remove(*self._info, self._role)
        self._role, self._answers = role, answers
        if role is not None:
            info.labels(*self._info, role).set(1)

    def record_batch(self, report: BatchReport) -> None:
        """Count one model run."""
        if not self._answers:
            return
        pairs, tokens = self._batch
        pairs.observe(report.pairs)
        tokens.observe(report.padded_tokens)
        self._batch_seconds.observe(report.duration_seconds)
        self._tokens.inc(report.tokens)
        self._padding.inc(report.padded_tokens - report.tokens)

    def record_stages(self, small: Run, large: Run | None) -> None:
        """Count what the stages of a cascade gave a request; None: no pair was passed on."""
        if not self._answers:
            return
        cascade, passed = self._metrics.cascade, len(large.logits) if large is not None else 0
        cascade.pairs.labels(self._task, "small").inc(len(small.logits) - passed)
        cascade.pairs.labels(self._task, "large").inc(passed)
        for stage, run in {"small": small, **({"large": large} if large is not None else {})}.items():
            for part in PARTS[stage]:
                cascade.seconds.labels(self._task, stage, part).observe(run.timing.seconds[part])

    def record_admitted(self) -> None:
        """Count an admitted request."""
        if self._answers:
            self._metrics.admitted.labels(self._task).inc()

    def record_dropped(self, why: str) -> None:
        """Count a request whose work was dropped: `expired` or `caller_gone`."""
        if self._answers:
            self._metrics.dropped.labels(self._task, why).inc()

    @property
    def languages(self) -> Sequence[str]:
        """The values of the label `language`."""
        return self._histogram.languages

    def record_scores(self, languages: Sequence[str], scores: Floats, labels: Flags, truncated: int) -> None:
        """Count scores [N] by language and label. The metrics show them after the next `flush_scores`."""
        if not self._answers:
            return
        self._histogram.add(languages, scores, labels)
        if truncated:
            self._metrics.truncated.labels(self._task).inc(truncated)

    def record_unscored(self, pairs: int) -> None:
        """Count pairs that a partial answer left out."""
        if self._answers:
            self._metrics.unscored.labels(self._task).inc(pairs)

    def record_cache_lookups(self, cache: str, hits: int, misses: int) -> None:
        """Set all hits and misses of a cache since the model was loaded."""
        for result, total in (("hit", hits), ("miss", misses)):
            fresh, self._cache_lookups[cache, result] = total - self._cache_lookups[cache, result], total
            if self._answers:
                self._metrics.cache_lookups.labels(self._task, cache, result).inc(fresh)

    def flush_scores(self, drift: Drift, unknown_tokens: int) -> None:
        """Add the scores since the last call to the metrics and to `drift`, and set all unknown tokens so far."""
        counts, sums = self._histogram.take()
        by_language = counts.sum(axis=1)
        drift.add(by_language)
        for row in np.flatnonzero(by_language.any(axis=1)).tolist():
            language = self._histogram.languages[row]
            self._metrics.drift.scores.add(self._task, language, by_language[row], float(sums[row]))
            for label, count in enumerate(counts[row].sum(axis=1).tolist()):
                self._metrics.scores.labels(self._task, language, str(label)).inc(count)
        if self._role is Role.ACTIVE:
            self._metrics.drift.set_active(self._task, drift)
        fresh, self._unknown_tokens = unknown_tokens - self._unknown_tokens, unknown_tokens
        if self._answers:
            self._metrics.unknown_tokens.labels(self._task).inc(fresh)

    def record_backlog(self, backlog: Backlog, tokens_per_second: float, restarts: int) -> None:
        """Set the active model's backlog, its throughput, and all restarts of its inference threads so far."""
        if self._role is not Role.ACTIVE:
            return
        tokens = {Priority.INTERACTIVE: backlog.interactive_tokens, Priority.BULK: backlog.bulk_tokens}
        for priority, count in tokens.items():
            self._metrics.queued_tokens.labels(self._task, priority.name.lower()).set(count)
        self._metrics.queue_age.labels(self._task).set(backlog.oldest_wait_seconds)
        self._metrics.throughput.labels(self._task).set(tokens_per_second)
        self._metrics.restarts.labels(self._task).inc(restarts - self._restarts)
        self._restarts = restarts
