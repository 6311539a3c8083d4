"""One served model: from pairs of text to scores. Joins bundle, tokeniser, engine and scheduler; knows no HTTP."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from relevance.bundle import Bundle, Manifest
from relevance.errors import BundleError
from relevance.tasks import Pair, Task
from relevance.tokenization import TokenizedPair
from service.engine import Engine
from service.errors import OverloadedError
from service.scheduler import Scheduler, TurnScheduler
from service.settings import Settings
from service.telemetry import Metrics

log = logging.getLogger(__name__)

INLINE_CHARS = 2000  # less text than this is tokenised faster than a thread is woken
LONGEST_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores and labels [N] in the order of the pairs, the places of those that were cut, and all tokens read."""

    scores: NDArray[np.float64]
    labels: list[int]
    thresholds: dict[str, float]
    truncated: list[int]
    tokens: int


class ServedModel:
    """A bundle that has passed its self-test, ready to score."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics, executor: Executor) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.bundle.manifest
        self.task = self.manifest.task
        budget = settings.batch_tokens(engine.device)
        self.scheduler: Scheduler = TurnScheduler(
            engine.logits, budget, metrics.batch_observer(self.task), f"inference-{self.task}"
        )
        self._max_queued_tokens = settings.max_queued_tokens
        self._metrics = metrics
        self._executor = executor

    @classmethod
    def load(cls, task: Task, folder: Path, settings: Settings, metrics: Metrics, executor: Executor) -> Self:
        """Open a bundle, load its model and run its self-test. Raises BundleError, or MachineError for the device."""
        started = time.perf_counter()
        bundle = Bundle.open(folder)
        if bundle.manifest.task is not task:
            raise BundleError(f"bundle {folder}: its task is {bundle.manifest.task.value!r}, expected {task.value!r}")
        engine = Engine(bundle, settings.threads, settings.device)
        log.info(
            "bundle loaded",
            extra={
                "task": task.value,
                "model": bundle.manifest.name,
                "version": bundle.manifest.version,
                "device": engine.device,
                "golden_pairs": len(bundle.golden),
                "golden_difference": engine.golden_difference,
                "duration_ms": round(1000 * (time.perf_counter() - started)),
            },
        )
        return cls(engine, settings, metrics, executor)

    async def score(self, pairs: Sequence[Pair]) -> Scored:
        """Return the scores of pairs. Raises OverloadedError, ScoringError or UnavailableError."""
        self._admit(len(pairs) * self.engine.tokenizer.template.overhead)  # the least it can be, before any work
        tokenized = await self._tokenize(pairs)
        tokens = sum(map(len, tokenized))
        self._admit(tokens)
        scores = self.manifest.scores(await self.scheduler.score(tokenized))
        thresholds = {language: self.manifest.threshold_for(language) for language in {p.language for p in pairs}}
        labels = [int(score >= thresholds[pair.language]) for score, pair in zip(scores.tolist(), pairs, strict=True)]
        truncated = [place for place, pair in enumerate(tokenized) if pair.truncated]
        self._metrics.truncated.labels(self.task).inc(len(truncated))
        self._metrics.scores.labels(self.task, "1").inc(sum(labels))
        self._metrics.scores.labels(self.task, "0").inc(len(labels) - sum(labels))
        return Scored(scores, labels, dict(sorted(thresholds.items())), truncated, tokens)

    async def _tokenize(self, pairs: Sequence[Pair]) -> list[TokenizedPair]:
        started = time.perf_counter()

        def work() -> list[TokenizedPair]:
            return self.engine.tokenizer.encode_pairs(self.manifest.texts(pairs))

        texts = {pair.query for pair in pairs} | {pair.candidate for pair in pairs}  # each is tokenised once
        if sum(map(len, texts)) <= INLINE_CHARS:
            tokenized = work()
        else:
            tokenized = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._metrics.tokenization_seconds.labels(self.task).observe(time.perf_counter() - started)
        return tokenized

    def _admit(self, tokens: int) -> None:
        """Raise OverloadedError where tokens come on top of a queue that is then too long."""
        queued, speed = self.scheduler.queued_tokens, self.scheduler.tokens_per_second
        if queued and queued + tokens > self._max_queued_tokens:
            seconds = math.ceil(queued / speed) if speed else 1
            raise OverloadedError(
                f"task {self.task.value!r}: {queued} tokens wait and this request has at least {tokens}; expected at "
                f"most {self._max_queued_tokens} together",
                retry_after_seconds=min(max(1, seconds), LONGEST_RETRY_SECONDS),
            )
