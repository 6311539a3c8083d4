"""One served model: from pairs of text to scores. Joins bundle, tokeniser, engine and scheduler; knows no HTTP."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
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
from service.scheduling.batching import Priority
from service.scheduling.scheduler import TurnScheduler
from service.scoring.admission import Gate
from service.scoring.leases import Holds
from service.scoring.lengths import Lengths
from service.scoring.model_metrics import ModelMetrics
from service.scoring.policy import scheduling_policy
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
    """Scores, logits and labels [N] in the order of the pairs, the places of those that were cut, all tokens read.

    Logits are the model's own, before calibration. `seconds` holds how long the parts took: queue, tokenize, run.
    """

    scores: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: list[int]
    thresholds: dict[str, float]
    truncated: list[int]
    tokens: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Logits:
    """What comes back for pairs before it is a score."""

    logits: NDArray[np.float32]
    truncated: list[bool]
    tokens: int
    seconds: dict[str, float]


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

    async def score(
        self, pairs: Sequence[Pair], deadline: float = math.inf, priority: Priority = Priority.INTERACTIVE
    ) -> Scored:
        """Return the scores of pairs by a deadline on `time.monotonic`.

        Raises OverloadedError (interactive requests only), DeadlineError, ScoringError or UnavailableError.
        """
        found = await self._logits(pairs, deadline, priority)
        scores = self.manifest.scores(found.logits)
        languages = [pair.language for pair in pairs]
        thresholds = {language: self.manifest.threshold_for(language) for language in sorted(set(languages))}
        labels = self.manifest.labels(scores, languages)
        truncated = [place for place, cut in enumerate(found.truncated) if cut]
        self.metrics.scored(languages, scores, labels, len(truncated))
        return Scored(
            scores, found.logits, labels.astype(int).tolist(), thresholds, truncated, found.tokens, found.seconds
        )

    def refresh(self) -> None:
        """Bring the metrics up to date that tell a state."""
        self.metrics.waiting(self.scheduler.load(), self.scheduler.tokens_per_second, self.scheduler.restarts)
        self.metrics.looked_up("tokens", self._tokens.hits, self._tokens.misses)
        self.metrics.looked_up("scores", self._known.hits, self._known.misses)
        self.metrics.told(self.drift, self.engine.unknown_tokens)

    async def _logits(self, pairs: Sequence[Pair], deadline: float, priority: Priority) -> _Logits:
        """Return logits of pairs, those of known pairs from the score cache."""
        if not self._known.max_pairs:
            return await self._run(pairs, deadline, priority)
        known = self._known.get(pairs)
        missing = [pair for pair, each in known.items() if each is None]
        tokens, seconds = 0, dict.fromkeys(("queue", "tokenize", "run"), 0.0)
        if missing:
            fresh = await self._run(missing, deadline, priority)
            tokens, seconds = fresh.tokens, fresh.seconds
            for pair, logit, cut in zip(missing, fresh.logits.tolist(), fresh.truncated, strict=True):
                known[pair] = Known(logit, cut)
                self._known.put(pair, Known(logit, cut))
        found = [each for pair in pairs if (each := known[pair]) is not None]
        logits = np.array([each.logit for each in found], dtype=np.float32)
        return _Logits(logits, [each.truncated for each in found], tokens, seconds)

    async def _run(self, pairs: Sequence[Pair], deadline: float, priority: Priority) -> _Logits:
        """Return logits of pairs from the model."""
        began = time.monotonic()
        reading = Reading(pairs, self.manifest, self.engine.tokenizer, self._tokens)
        if priority is Priority.INTERACTIVE:
            tokenized = await self._let_in(reading, deadline)
        else:
            tokenized = await self._tokenize(reading, priority, deadline)
        tokens = sum([len(pair.input_ids) for pair in tokenized])
        self.metrics.admitted()
        tokenizing = time.monotonic() - began
        try:
            outcome = await self.scheduler.score(tokenized, priority, deadline)
        except DeadlineError:
            self.metrics.dropped("expired")
            raise
        except asyncio.CancelledError:
            self.metrics.dropped("caller_gone")
            raise
        seconds = {"queue": outcome.queue_seconds, "tokenize": tokenizing, "run": outcome.run_seconds}
        return _Logits(outcome.logits, [pair.truncated for pair in tokenized], tokens, seconds)

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
