"""One served model, single or a cascade: from pairs of text to scores and labels. Knows no HTTP, no batches."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from relevance.model.bundle import Bundle
from relevance.model.cascade_session import rule_of
from relevance.model.cores import usable_cores
from relevance.tasks import Pair
from relevance.text.tokenization import TokenizedPair
from service.batch_shape import GPU_SHAPE
from service.errors import DeadlineError
from service.observability.drift import Drift, Reference
from service.observability.metrics import Metrics
from service.runtime.openvino_engine import CpuOptions, openvino_engine
from service.runtime.providers import GpuOptions, on_cpu
from service.runtime.session import Engine
from service.scheduling.job import Priority
from service.scheduling.scheduler import Backlog
from service.scoring.admission import Admits
from service.scoring.cascade import Cascade, check_golden
from service.scoring.leases import Leases
from service.scoring.model_metrics import ModelMetrics
from service.scoring.partial import score_first
from service.scoring.policy import scheduling_policy
from service.scoring.request_context import RequestContext, Timing
from service.scoring.score_cache import CachedLogit, ScoreCache
from service.scoring.stage import Executors, Run, Stage, WarmEngine
from service.scoring.tokenization import TokenizationPlan
from service.settings import Settings

ESTIMATE_TOLERANCE = 1.25  # a request with more than this many times its estimated tokens is admitted again

OpenEngine = Callable[[Bundle, Settings], Engine]


def open_engine(bundle: Bundle, settings: Settings) -> Engine:
    """Return the engine of a bundle. Raises BundleError, MachineError or ConfigError."""
    cores = usable_cores()
    threads = settings.threads_a_run(cores)
    if on_cpu(settings.device):
        cpu = CpuOptions(settings.cpu_runtime, threads, settings.runs_at_once("cpu", cores))
        if (chosen := openvino_engine(bundle, cpu)) is not None:
            return chosen
    shape = scheduling_policy(settings, "cuda", GPU_SHAPE, bundle.manifest.max_length, cores).shape
    gpu = GpuOptions(shape, settings.gpu_memory_mb, settings.cuda_graphs)
    return Engine(bundle, threads, settings.device, gpu)


@dataclass(frozen=True, slots=True)
class Scored:
    """The result for pairs, in their order: scores, logits and labels [N], and the places of the pairs that were cut.

    Logits are the model's own, before calibration. `tokens` counts what the model read, without padding. `unscored` are
    the places of pairs that a partial result leaves out: NaN in scores and logits, 0 in labels.
    """

    scores: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: list[int]
    thresholds: dict[str, float]
    truncated: list[int]
    tokens: int
    timing: Timing
    unscored: Sequence[int] = ()


class ServedModel:
    """A bundle that has passed its self-test, ready to score."""

    def __init__(
        self, bundle: Bundle, engines: Sequence[Engine], settings: Settings, metrics: Metrics, executors: Executors
    ) -> None:
        """Start the inference threads. Raises BundleError where the golden pairs of a cascade have other logits."""
        self.bundle, self.manifest = bundle, bundle.manifest
        self.task = self.manifest.task
        self.device, self.runtime = engines[-1].device, engines[-1].runtime
        self.loaded_at = datetime.now(UTC)
        self.leases = Leases()
        self.metrics = ModelMetrics(metrics, self.manifest, self.device, self.runtime)
        self._model = _joined(bundle, engines, settings, self.metrics, executors)
        self.admission: Admits = self._model.admission
        self._score_cache = ScoreCache(settings.score_cache_pairs)
        reference = Reference.of(self.manifest, settings.drift_min_scores)
        self.drift = Drift(reference, self.metrics.languages, settings.drift_window_seconds)

    @property
    def stages(self) -> Sequence[Stage]:
        """The models that score, each with its queue: one, or of a cascade the small and the large one."""
        return self._model.stages

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput; 0 before the first run."""
        return self._model.tokens_per_second

    @property
    def fault(self) -> str | None:
        """Why the model can no longer score, or None."""
        return next((fault for stage in self.stages if (fault := stage.scheduler.fault)), None)

    @property
    def alive(self) -> bool:
        """Whether the model can still score."""
        return self.fault is None

    async def close(self) -> None:
        """Fail all waiting requests and end the inference threads."""
        for stage in self.stages:
            await stage.scheduler.close()

    async def score(self, pairs: Sequence[Pair], context: RequestContext, *, partial: bool = False) -> Scored:
        """Return the scores of pairs by the deadline of the request; where `partial`, of as many first ones as can be.

        Raises OverloadedError (interactive requests only), DeadlineError, ScoringError or UnavailableError.
        """
        if self._score_cache.max_pairs:
            return await self._score_cached(pairs, context, partial)
        run = await self._run(pairs, context, partial)
        return self._result(pairs, run.logits, run.truncated, run.tokens, run.timing)

    def refresh(self) -> None:
        """Update the metrics that report a state."""
        stages = self.stages
        backlog = Backlog.of_all([stage.scheduler.backlog() for stage in stages])
        restarts = sum(stage.scheduler.restarts for stage in stages)
        self.metrics.record_backlog(backlog, self.tokens_per_second, restarts)
        hits, misses = (sum(getattr(stage.token_cache, name) for stage in stages) for name in ("hits", "misses"))
        self.metrics.record_cache_lookups("tokens", hits, misses)
        self.metrics.record_cache_lookups("scores", self._score_cache.hits, self._score_cache.misses)
        self.metrics.flush_scores(self.drift, sum(stage.engine.unknown_tokens for stage in stages))

    async def _score_cached(self, pairs: Sequence[Pair], context: RequestContext, partial: bool) -> Scored:
        """Return the scores of pairs. Pairs in the score cache are not run again."""
        cached = self._score_cache.get(pairs)
        missing = [pair for pair, entry in cached.items() if entry is None]
        tokens, timing = 0, Timing(0.0, 0.0, 0.0, time.monotonic())
        if missing:
            run = await self._run(missing, context, partial)
            tokens, timing = run.tokens, run.timing
            for pair, logit, truncated in zip(missing, run.logits.tolist(), run.truncated, strict=False):
                cached[pair] = CachedLogit(logit, truncated)
                self._score_cache.put(pair, CachedLogit(logit, truncated))
        entries = []
        for pair in pairs:
            if (entry := cached[pair]) is None:  # a partial result ends here
                break
            entries.append(entry)
        logits = np.array([entry.logit for entry in entries], dtype=np.float32)
        return self._result(pairs, logits, [entry.truncated for entry in entries], tokens, timing)

    def _result(
        self, pairs: Sequence[Pair], logits: NDArray[np.float32], cut: Sequence[bool], tokens: int, timing: Timing
    ) -> Scored:
        """Return the result for logits [M] of the first M pairs, and record it in the metrics."""
        languages = [pair.language for pair in pairs[: len(logits)]]
        scores = self.manifest.scores(logits, languages)
        thresholds = {language: self.manifest.threshold_for(language) for language in sorted(set(languages))}
        labels = self.manifest.labels(scores, languages)
        truncated = [place for place, each in enumerate(cut) if each]
        self.metrics.record_scores(languages, scores, labels, len(truncated))
        unscored = range(len(logits), len(pairs))
        if unscored:
            self.metrics.record_unscored(len(unscored))
            none = np.full(len(unscored), np.nan)
            scores, logits = np.append(scores, none), np.append(logits, none.astype(np.float32))
            labels = np.append(labels, np.zeros(len(unscored), labels.dtype))
        timing = replace(timing, ready_at=time.monotonic())
        return Scored(scores, logits, labels.astype(int).tolist(), thresholds, truncated, tokens, timing, unscored)

    async def _run(self, pairs: Sequence[Pair], context: RequestContext, partial: bool) -> Run:
        """Tokenise pairs and run the model on them."""
        began, deadline, priority = time.monotonic(), context.deadline, context.priority
        plan = self._model.first.plan(pairs)
        if priority is Priority.INTERACTIVE and not partial:
            tokens = await self._admit_and_tokenize(plan, deadline)
        else:
            if partial:
                self.admission.admit(1, deadline)
            tokens = await self._model.first.tokenize(plan, priority, deadline)
        self.metrics.record_admitted()
        tokenizing = time.monotonic() - began

        async def score(start: int, end: int, until: float) -> Run:
            return await self._model.score(pairs[start:end], tokens[start:end], priority, until)

        try:
            if partial:
                return Run.joined(await score_first(score, self.admission, tokens, deadline), tokenizing)
            return Run.joined([await score(0, len(tokens), deadline)], tokenizing)
        except DeadlineError:
            self.metrics.record_dropped("expired")
            raise
        except asyncio.CancelledError:
            self.metrics.record_dropped("caller_gone")
            raise

    async def _admit_and_tokenize(self, plan: TokenizationPlan, deadline: float) -> list[TokenizedPair]:
        """Admit an interactive request by its estimated tokens, and tokenise it. A refusal is immediate and cheap."""
        first = self._model.first
        estimate = first.estimate(plan)
        self.admission.admit(estimate, deadline)
        with self.admission.reserve(estimate):
            tokenized = await first.tokenize(plan, Priority.INTERACTIVE, deadline)
        tokens = sum([len(pair.input_ids) for pair in tokenized])
        if tokens > ESTIMATE_TOLERANCE * estimate:
            self.admission.admit(tokens, deadline)
        return tokenized


def _joined(
    bundle: Bundle, engines: Sequence[Engine], settings: Settings, metrics: ModelMetrics, executors: Executors
) -> Stage | Cascade:
    """Return a bundle's stages as one model."""
    summary = bundle.manifest.cascade
    if summary is None:
        return Stage(WarmEngine.of(engines[0], settings), settings, executors, metrics.record_batch)
    rule, (small, large) = rule_of(bundle), engines
    check_golden(bundle, rule, small, large)
    warm = [WarmEngine.of(engine, settings) for engine in engines]
    shares = summary.small_cost / summary.cost, 1 - summary.small_cost / summary.cost
    first, second = (
        Stage(each, settings, executors, metrics.record_batch, share) for each, share in zip(warm, shares, strict=True)
    )
    return Cascade(rule, (first, second), summary.chosen_on.passed_on, metrics.record_stages)
