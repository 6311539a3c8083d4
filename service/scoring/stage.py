"""One model with its queue: text pairs to logits. Knows its tokeniser and its scheduler; knows no thresholds, no HTTP.

A bundle of one model has one stage. A cascade has two (`service.scoring.cascade`).
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relevance.model.cores import usable_cores
from relevance.tasks import Pair
from relevance.text.tokenization import TokenizedPair
from service.errors import DeadlineError
from service.runtime.session import Engine
from service.scheduling.fair_queue import SchedulingPolicy
from service.scheduling.job import Job, Priority
from service.scheduling.scheduler import BatchReport, Scheduler
from service.scoring.admission import Admission
from service.scoring.policy import scheduling_policy
from service.scoring.request_context import Timing
from service.scoring.token_estimate import TokenEstimator
from service.scoring.tokenization import Key, TextInput, TokenCache, TokenizationPlan
from service.settings import Settings

INLINE_BYTES = 2000  # less text is tokenised on the event loop: waking a thread takes longer

Executors = Mapping[Priority, Executor]  # of tokenisation, by priority


@dataclass(frozen=True, slots=True)
class Run:
    """What a model gave for the first pairs of a request, [M] each: logits, and whether a pair was cut.

    `tokens` counts what was read, without padding.
    """

    logits: NDArray[np.float32]
    truncated: list[bool]
    tokens: int
    timing: Timing

    @classmethod
    def of(cls, job: Job) -> "Run":
        """Return the result of a finished job. Its pairs were tokenised before."""
        truncated = [pair.truncated for pair in job.pairs]
        return cls(job.logits, truncated, job.tokens, Timing(job.queue_seconds, 0.0, job.run_seconds, time.monotonic()))

    @classmethod
    def joined(cls, runs: Sequence["Run"], tokenizing: float) -> "Run":
        """Join runs that followed one another; `tokenizing` took that many seconds before the first."""
        timings = [run.timing for run in runs]
        seconds = (sum(each) for each in zip(*[(t.queue, t.tokenize, t.run) for t in timings], strict=True))
        queue, tokenize, run = seconds
        return cls(
            np.concatenate([run.logits for run in runs]),
            [each for run in runs for each in run.truncated],
            sum(run.tokens for run in runs),
            Timing(queue, tokenizing + tokenize, run, time.monotonic()),
        )


@dataclass(frozen=True, slots=True)
class WarmEngine:
    """An engine, warmed up for the batches of its policy: tokens, padded tokens and seconds of its warm-up runs.

    Before any thread starts, which a failure would leave running.
    """

    engine: Engine
    policy: SchedulingPolicy
    runs: Sequence[tuple[int, int, float]]

    @classmethod
    def of(cls, engine: Engine, settings: Settings) -> "WarmEngine":
        """Warm an engine up."""
        longest = engine.bundle.manifest.max_length
        policy = scheduling_policy(settings, engine.device, engine.shape, longest, usable_cores())
        return cls(engine, policy, engine.warm_up(policy.shape))


class Stage:
    """A model with its queue, its token cache and its inference threads. Used on the event loop."""

    def __init__(
        self,
        warm: "WarmEngine",
        settings: Settings,
        executors: Executors,
        observe: Callable[[BatchReport], None],
        latency_share: float = 1.0,
    ) -> None:
        """Start the inference threads; the stage may take `latency_share` of the latency that is aimed at."""
        self.engine = engine = warm.engine
        self.target_latency_seconds = latency_share * settings.aimed_latency_seconds
        policy = replace(warm.policy, target_latency_seconds=self.target_latency_seconds)
        self.scheduler = Scheduler(engine.logits, policy, observe, f"inference-{engine.bundle.manifest.task}")
        for tokens, padded, seconds in warm.runs:
            self.scheduler.record_run(tokens, padded, seconds)
        self.admission = Admission(self.scheduler, settings.max_queued_tokens, self.target_latency_seconds)
        self.token_cache = TokenCache(settings.token_cache_tokens)
        self._estimator = TokenEstimator()
        self._executors = executors

    @property
    def first(self) -> "Stage":
        """The stage that reads every pair."""
        return self

    @property
    def stages(self) -> "tuple[Stage, ...]":
        """All stages."""
        return (self,)

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput; 0 before the first run."""
        return self.scheduler.tokens_per_second

    def plan(self, pairs: Sequence[Pair]) -> TokenizationPlan:
        """Return what must be tokenised of pairs."""
        return TokenizationPlan(pairs, self.engine.inputs, self.token_cache)

    def estimate(self, plan: TokenizationPlan) -> int:
        """Return the estimated tokens of the pairs of a plan."""
        return plan.estimate(self._estimator)

    async def tokenize(self, plan: TokenizationPlan, priority: Priority, deadline: float) -> list[TokenizedPair]:
        """Return the pairs of a plan as the model reads them. Raises DeadlineError."""
        if plan.fresh_bytes <= INLINE_BYTES:
            return self._join(plan, plan.encode())
        encoding = asyncio.get_running_loop().run_in_executor(self._executors[priority], plan.encode)
        with contextlib.suppress(TimeoutError):  # else its context would keep the task and so the model in memory
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - time.monotonic()):
                return self._join(plan, await encoding)
        raise DeadlineError("the deadline passed before all texts were tokenised")

    async def score(
        self, pairs: Sequence[Pair], tokens: Sequence[TokenizedPair], priority: Priority, deadline: float
    ) -> Run:
        """Return what the model gives pairs, by their tokens alone. Raises as `Scheduler.score` does."""
        return Run.of(await self.scheduler.score(tokens, priority, deadline))

    def _join(self, plan: TokenizationPlan, fresh: Mapping[Key, TextInput]) -> list[TokenizedPair]:
        self._estimator.learn(plan.fresh_bytes, sum(len(text.ids) for text in fresh.values()))
        return plan.join(fresh)
