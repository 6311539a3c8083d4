"""One served model: from pairs of text to scores. Joins bundle, tokeniser, engine and scheduler; knows no HTTP."""

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

from relevance.bundle import Bundle, Manifest
from relevance.session import usable_cores
from relevance.tasks import Pair
from relevance.tokenization import TokenizedPair
from service.errors import DeadlineError
from service.observability.drift import Drift, Reference
from service.observability.metrics import Metrics
from service.runtime.providers import GpuOptions
from service.runtime.session import Engine
from service.scheduling.batching import Job, Priority
from service.scheduling.scheduler import TurnScheduler
from service.scoring.admission import Gate
from service.scoring.leases import Holds
from service.scoring.lengths import Lengths
from service.scoring.model_metrics import ModelMetrics
from service.scoring.policy import scheduling_policy
from service.scoring.request_context import RequestContext, Timing
from service.scoring.score_cache import Known, ScoreCache
from service.scoring.tokenization import Ids, Key, Reading, TokenCache
from service.settings import Settings

INLINE_BYTES = 2000  # less text than this is tokenised faster than a thread is woken
SURPRISE = 1.25  # times the tokens that a request was guessed to have: it is looked at once more

OpenEngine = Callable[[Bundle, Settings], Engine]
Executors = Mapping[Priority, Executor]  # who tokenises


def open_engine(bundle: Bundle, settings: Settings) -> Engine:
    """Return the engine of a bundle. Raises BundleError, MachineError or ConfigError."""
    cores = usable_cores()
    shape = scheduling_policy(settings, "cuda", bundle.manifest.max_length, cores).shape
    gpu = GpuOptions(shape, settings.gpu_memory_mb, settings.cuda_graphs)
    return Engine(bundle, settings.threads_a_run(cores), settings.device, gpu)


@dataclass(frozen=True, slots=True)
class Scored:
    """The result for pairs, in their order: scores, logits and labels [N], and the places of the pairs that were cut.

    Logits are the model's own, before calibration. `tokens` counts what the model read, without padding.
    """

    scores: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: list[int]
    thresholds: dict[str, float]
    truncated: list[int]
    tokens: int
    timing: Timing


class ServedModel:
    """A bundle that has passed its self-test, ready to score."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics, executors: Executors) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.bundle.manifest
        self.task = self.manifest.task
        self.loaded_at = datetime.now(UTC)
        self.holds = Holds()
        self.metrics = ModelMetrics(metrics, self.manifest, engine.device)
        policy = scheduling_policy(settings, engine.device, self.manifest.max_length, usable_cores())
        runs = engine.warm_up(policy.shape)  # before there is a thread, which one that fails would leave behind
        self.scheduler = TurnScheduler(engine.logits, policy, self.metrics.batch, f"inference-{self.task}")
        for tokens, padded, seconds in runs:
            self.scheduler.prime(tokens, padded, seconds)
        self.gate = Gate(self.scheduler, settings.max_queued_tokens, settings.aimed_latency_seconds)
        self._tokens = TokenCache(settings.token_cache_tokens)
        self._lengths = Lengths()
        self._known = ScoreCache(settings.score_cache_pairs)
        self._executors = executors
        reference = Reference.of(self.manifest, settings.drift_min_scores)
        self.drift = Drift(reference, self.metrics.languages, settings.drift_window_seconds)

    async def score(self, pairs: Sequence[Pair], context: RequestContext) -> Scored:
        """Return the scores of pairs by the deadline of the request.

        Raises OverloadedError (interactive requests only), DeadlineError, ScoringError or UnavailableError.
        """
        if self._known.max_pairs:
            return await self._score_unknown(pairs, context)
        job, timing = await self._run(pairs, context)
        return self._result(pairs, job.logits, [pair.truncated for pair in job.pairs], job.tokens, timing)

    def refresh(self) -> None:
        """Bring the metrics up to date that tell a state."""
        self.metrics.waiting(self.scheduler.load(), self.scheduler.tokens_per_second, self.scheduler.restarts)
        self.metrics.looked_up("tokens", self._tokens.hits, self._tokens.misses)
        self.metrics.looked_up("scores", self._known.hits, self._known.misses)
        self.metrics.told(self.drift, self.engine.unknown_tokens)

    async def _score_unknown(self, pairs: Sequence[Pair], context: RequestContext) -> Scored:
        """Return the scores of pairs; those that the score cache knows are not run again."""
        known = self._known.get(pairs)
        missing = [pair for pair, each in known.items() if each is None]
        tokens, timing = 0, Timing(0.0, 0.0, 0.0, time.monotonic())
        if missing:
            job, timing = await self._run(missing, context)
            tokens = job.tokens
            for pair, logit, tokenized in zip(missing, job.logits.tolist(), job.pairs, strict=True):
                known[pair] = Known(logit, tokenized.truncated)
                self._known.put(pair, Known(logit, tokenized.truncated))
        found = [each for pair in pairs if (each := known[pair]) is not None]
        logits = np.array([each.logit for each in found], dtype=np.float32)
        return self._result(pairs, logits, [each.truncated for each in found], tokens, timing)

    def _result(
        self, pairs: Sequence[Pair], logits: NDArray[np.float32], cut: Sequence[bool], tokens: int, timing: Timing
    ) -> Scored:
        """Return the result of logits, and count it."""
        scores = self.manifest.scores(logits)
        languages = [pair.language for pair in pairs]
        thresholds = {language: self.manifest.threshold_for(language) for language in sorted(set(languages))}
        labels = self.manifest.labels(scores, languages)
        truncated = [place for place, each in enumerate(cut) if each]
        self.metrics.scored(languages, scores, labels, len(truncated))
        timing = replace(timing, ready_at=time.monotonic())
        return Scored(scores, logits, labels.astype(int).tolist(), thresholds, truncated, tokens, timing)

    async def _run(self, pairs: Sequence[Pair], context: RequestContext) -> tuple[Job, Timing]:
        """Tokenise pairs and run the model on them."""
        began = time.monotonic()
        reading = Reading(pairs, self.manifest, self.engine.tokenizer, self._tokens)
        if context.priority is Priority.INTERACTIVE:
            tokenized = await self._let_in(reading, context.deadline)
        else:
            tokenized = await self._tokenize(reading, context.priority, context.deadline)
        self.metrics.admitted()
        tokenizing = time.monotonic() - began
        try:
            job = await self.scheduler.score(tokenized, context.priority, context.deadline)
        except DeadlineError:
            self.metrics.dropped("expired")
            raise
        except asyncio.CancelledError:
            self.metrics.dropped("caller_gone")
            raise
        return job, Timing(job.queue_seconds, tokenizing, job.run_seconds, time.monotonic())

    async def _let_in(self, reading: Reading, deadline: float) -> list[TokenizedPair]:
        """Tokenise an interactive request if there is room for it.

        How much it needs is guessed from the bytes of what is not known: what is refused has cost next to nothing, and
        is told so at once.
        """
        guess = reading.estimate(self._lengths)
        self.gate.admit(guess, deadline)
        with self.gate.reserve(guess):
            tokenized = await self._tokenize(reading, Priority.INTERACTIVE, deadline)
        tokens = sum([len(pair.input_ids) for pair in tokenized])
        if tokens > SURPRISE * guess:
            self.gate.admit(tokens, deadline)
        return tokenized

    async def _tokenize(self, reading: Reading, priority: Priority, deadline: float) -> list[TokenizedPair]:
        if reading.fresh_bytes <= INLINE_BYTES:
            return self._join(reading, reading.encode())
        encoding = asyncio.get_running_loop().run_in_executor(self._executors[priority], reading.encode)
        with contextlib.suppress(TimeoutError):  # as the context of another error it would keep its task, and the model
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - time.monotonic()):
                return self._join(reading, await encoding)
        raise DeadlineError("the deadline passed before all texts were tokenised")

    def _join(self, reading: Reading, fresh: Mapping[Key, Ids]) -> list[TokenizedPair]:
        self._lengths.learn(reading.fresh_bytes, sum(map(len, fresh.values())))
        return reading.join(fresh)
