"""One served model: from pairs of text to scores. Knows bundle, tokeniser, engine and scheduler; knows no HTTP."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from relevance.model.bundle import Bundle, Manifest
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
from service.scheduling.job import Job, Priority
from service.scheduling.scheduler import Scheduler
from service.scoring.admission import Admission
from service.scoring.leases import Leases
from service.scoring.model_metrics import ModelMetrics
from service.scoring.partial import score_first
from service.scoring.policy import scheduling_policy
from service.scoring.request_context import RequestContext, Timing
from service.scoring.score_cache import CachedLogit, ScoreCache
from service.scoring.token_estimate import TokenEstimator
from service.scoring.tokenization import Key, TextInput, TokenCache, TokenizationPlan
from service.settings import Settings

INLINE_BYTES = 2000  # less text is tokenised on the event loop: waking a thread takes longer
ESTIMATE_TOLERANCE = 1.25  # a request with more than this many times its estimated tokens is admitted again

OpenEngine = Callable[[Bundle, Settings], Engine]
Executors = Mapping[Priority, Executor]  # of tokenisation, by priority


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


@dataclass(frozen=True, slots=True)
class _Run:
    """What the model gave for the first pairs of a request, [M] each: logits, and whether a pair was cut."""

    logits: NDArray[np.float32]
    truncated: list[bool]
    tokens: int
    timing: Timing

    @classmethod
    def of(cls, jobs: Sequence[Job], tokenizing: float) -> "_Run":
        """Join jobs that ran one after the other; `tokenizing` took that many seconds before."""
        queue, run = sum(job.queue_seconds for job in jobs), sum(job.run_seconds for job in jobs)
        return cls(
            np.concatenate([job.logits for job in jobs]),
            [pair.truncated for job in jobs for pair in job.pairs],
            sum(job.tokens for job in jobs),
            Timing(queue, tokenizing, run, time.monotonic()),
        )


class ServedModel:
    """A bundle that has passed its self-test, ready to score."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics, executors: Executors) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.bundle.manifest
        self.task = self.manifest.task
        self.loaded_at = datetime.now(UTC)
        self.leases = Leases()
        self.metrics = ModelMetrics(metrics, self.manifest, engine.device, engine.runtime)
        max_length = self.manifest.max_length
        policy = scheduling_policy(settings, engine.device, engine.shape, max_length, usable_cores())
        runs = engine.warm_up(policy.shape)  # before any thread starts, which a failure would leave running
        self.scheduler = Scheduler(engine.logits, policy, self.metrics.record_batch, f"inference-{self.task}")
        for tokens, padded, seconds in runs:
            self.scheduler.record_run(tokens, padded, seconds)
        self.admission = Admission(self.scheduler, settings.max_queued_tokens, settings.aimed_latency_seconds)
        self._token_cache = TokenCache(settings.token_cache_tokens)
        self._estimator = TokenEstimator()
        self._score_cache = ScoreCache(settings.score_cache_pairs)
        self._executors = executors
        reference = Reference.of(self.manifest, settings.drift_min_scores)
        self.drift = Drift(reference, self.metrics.languages, settings.drift_window_seconds)

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
        self.metrics.record_backlog(self.scheduler.backlog(), self.scheduler.tokens_per_second, self.scheduler.restarts)
        self.metrics.record_cache_lookups("tokens", self._token_cache.hits, self._token_cache.misses)
        self.metrics.record_cache_lookups("scores", self._score_cache.hits, self._score_cache.misses)
        self.metrics.flush_scores(self.drift, self.engine.unknown_tokens)

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

    async def _run(self, pairs: Sequence[Pair], context: RequestContext, partial: bool) -> _Run:
        """Tokenise pairs and run the model on them."""
        began = time.monotonic()
        plan = TokenizationPlan(pairs, self.engine.inputs, self._token_cache)
        if context.priority is Priority.INTERACTIVE and not partial:
            tokenized = await self._admit_and_tokenize(plan, context.deadline)
        else:
            if partial:
                self.admission.admit(1, context.deadline)
            tokenized = await self._tokenize(plan, context.priority, context.deadline)
        self.metrics.record_admitted()
        tokenizing = time.monotonic() - began
        try:
            if partial:
                jobs = await score_first(self.scheduler, self.admission, tokenized, context.deadline)
            else:
                jobs = [await self.scheduler.score(tokenized, context.priority, context.deadline)]
        except DeadlineError:
            self.metrics.record_dropped("expired")
            raise
        except asyncio.CancelledError:
            self.metrics.record_dropped("caller_gone")
            raise
        return _Run.of(jobs, tokenizing)

    async def _admit_and_tokenize(self, plan: TokenizationPlan, deadline: float) -> list[TokenizedPair]:
        """Admit an interactive request by its estimated tokens, and tokenise it. A refusal is immediate and cheap."""
        estimate = plan.estimate(self._estimator)
        self.admission.admit(estimate, deadline)
        with self.admission.reserve(estimate):
            tokenized = await self._tokenize(plan, Priority.INTERACTIVE, deadline)
        tokens = sum([len(pair.input_ids) for pair in tokenized])
        if tokens > ESTIMATE_TOLERANCE * estimate:
            self.admission.admit(tokens, deadline)
        return tokenized

    async def _tokenize(self, plan: TokenizationPlan, priority: Priority, deadline: float) -> list[TokenizedPair]:
        if plan.fresh_bytes <= INLINE_BYTES:
            return self._join(plan, plan.encode())
        encoding = asyncio.get_running_loop().run_in_executor(self._executors[priority], plan.encode)
        with contextlib.suppress(TimeoutError):  # else its context would keep the task and so the model in memory
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - time.monotonic()):
                return self._join(plan, await encoding)
        raise DeadlineError("the deadline passed before all texts were tokenised")

    def _join(self, plan: TokenizationPlan, fresh: Mapping[Key, TextInput]) -> list[TokenizedPair]:
        self._estimator.learn(plan.fresh_bytes, sum(len(text.ids) for text in fresh.values()))
        return plan.join(fresh)
