"""A cascade of two stages: text pairs to logits. Knows which pairs are passed on; knows no scheduler and no HTTP.

The small model's stage scores all pairs of a request. Those inside the band are tokenised for the large model and join
its queue, with the pairs of other requests. Both stages share the latency that is aimed at, by the time that each takes
of an average pair.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from relevance.model.bundle import Bundle
from relevance.model.cascade import CascadeRule
from relevance.tasks import Pair
from relevance.text.tokenization import TokenizedPair
from service.runtime.session import Engine
from service.scheduling.job import Priority
from service.scoring.admission import Admission, ModelQueue
from service.scoring.request_context import Timing
from service.scoring.stage import Run, Stage

MEMORY_TOKENS = 50_000  # of the moving average


class PassedShare:
    """A moving average of the share of tokens that is passed on."""

    def __init__(self, initial: float) -> None:
        self.value = initial

    def learn(self, tokens: int, passed: int) -> None:
        """Add that of `tokens` tokens in total `passed` were passed on."""
        if tokens:
            self.value += (passed / tokens - self.value) * tokens / (tokens + MEMORY_TOKENS)


class FollowingQueue:
    """The large model's queue as admission sees it: its own tokens, and those that the small model will pass on."""

    def __init__(self, small: ModelQueue, large: ModelQueue, share: PassedShare) -> None:
        self._small, self._large, self._share = small, large, share

    @property
    def queued_tokens(self) -> int:
        """Tokens of interactive requests that are admitted and not yet scored."""
        return self._large.queued_tokens + round(self._share.value * self._small.queued_tokens)

    @property
    def backlog_tokens(self) -> int:
        """The same with at most half the target capacity for each oversized request."""
        return self._large.backlog_tokens + round(self._share.value * self._small.backlog_tokens)

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput of the large model."""
        return self._large.tokens_per_second

    def tokens_before(self, tokens: int) -> int:
        """Return how many tokens the large model runs before a new request of `tokens` is done, without its own."""
        share = self._share.value
        coming = self._small.tokens_before(round(tokens / share)) if share else 0
        return self._large.tokens_before(tokens) + round(share * coming)


class CascadeAdmission:
    """Admits a request where both stages have room for what each will read of it, and time for both by its deadline.

    `tokens` are always those of the small model.
    """

    def __init__(self, small: Admission, large: Admission, share: PassedShare) -> None:
        self._small, self._large, self._share = small, large, share

    @property
    def full(self) -> bool:
        """Whether no request has room, however small."""
        return self._small.full or self._large.full

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that are queued in the fuller stage."""
        return self._fuller.queued_tokens

    @property
    def limit(self) -> int:
        """How many tokens may be queued in the fuller stage."""
        return self._fuller.limit

    @property
    def retry_after_seconds(self) -> int:
        """When to retry: once the present backlog of both is scored."""
        return max(self._small.retry_after_seconds, self._large.retry_after_seconds)

    @contextlib.contextmanager
    def reserve(self, tokens: int) -> Iterator[None]:
        """Count tokens as queued while their request is tokenised."""
        with self._small.reserve(tokens), self._large.reserve(self._passed(tokens)):
            yield

    def admit(self, tokens: int, deadline: float) -> None:
        """Raise OverloadedError if a stage has no room, DeadlineError if both together are not done by `deadline`."""
        passed = self._passed(tokens)
        later = 0.0
        if passed:
            self._large.admit(passed, deadline)
            later = 0.0 if math.isinf(deadline) else self._large.needed_seconds(passed)
        self._small.admit(tokens, deadline - later)

    @property
    def _fuller(self) -> Admission:
        return max(self._large, self._small, key=lambda each: each.backlog_tokens / max(1, each.limit))

    def _passed(self, tokens: int) -> int:
        return math.ceil(self._share.value * tokens)


class Cascade:
    """The stages of a cascade bundle, small and large."""

    def __init__(
        self,
        rule: CascadeRule,
        stages: tuple[Stage, Stage],
        passed_share: float,
        observe: Callable[[Run, Run | None], None],
    ) -> None:
        """Join two stages; `passed_share` is the share passed on at first.

        `observe` is told what the small and, where pairs were passed on, the large one gave a request.
        """
        self.first, self._large = self.stages = stages
        self._rule, self._observe = rule, observe
        self._share = share = PassedShare(passed_share)
        queue = FollowingQueue(self.first.scheduler, self._large.scheduler, share)
        self.admission = CascadeAdmission(self.first.admission, replace(self._large.admission, queue=queue), share)

    @property
    def tokens_per_second(self) -> float:
        """Recent throughput in tokens of the small model, with the time that the large one takes for its share."""
        speeds = [stage.scheduler.tokens_per_second for stage in self.stages]
        if not all(speeds):
            return 0.0
        return 1 / (1 / speeds[0] + self._share.value / speeds[1])

    async def score(
        self, pairs: Sequence[Pair], tokens: Sequence[TokenizedPair], priority: Priority, deadline: float
    ) -> Run:
        """Return what the cascade gives pairs, tokenised for its first stage. Raises as `Scheduler.score` does."""
        languages = [pair.language for pair in pairs]
        first = await self.first.score(pairs, tokens, priority, deadline)
        logits, passed = self._rule.first(first.logits, languages)
        places = np.flatnonzero(passed).tolist()
        self._share.learn(first.tokens, sum([len(tokens[place].input_ids) for place in places]))
        if not places:
            self._observe(first, None)
            return replace(first, logits=logits)
        rest = [pairs[place] for place in places]
        began = time.monotonic()
        further = await self._large.tokenize(self._large.plan(rest), priority, deadline)
        tokenizing = time.monotonic() - began
        second = await self._large.score(rest, further, priority, deadline)
        second = replace(second, timing=replace(second.timing, tokenize=tokenizing))
        self._observe(first, second)
        logits[places] = self._rule.second(second.logits, [pair.language for pair in rest])
        truncated = list(first.truncated)
        for place, each in zip(places, second.truncated, strict=True):
            truncated[place] = each
        return Run(logits, truncated, first.tokens + second.tokens, _sum(first.timing, second.timing))


def check_golden(bundle: Bundle, rule: CascadeRule, small: Engine, large: Engine) -> float:
    """Return the largest difference between a cascade's golden logits and those by its engines.

    Raises BundleError past the larger tolerance of both engines.
    """
    tolerance = max(rule.worth(small.golden_tolerance), abs(rule.large.calibration.scale) * large.golden_tolerance)
    pairs = [golden.pair for golden in bundle.golden]
    languages = [pair.language for pair in pairs]
    logits, passed = rule.first(small.logits(small.inputs.encode(pairs)), languages)
    rest = [pair for pair, each in zip(pairs, passed.tolist(), strict=True) if each]
    if rest:
        again = large.logits(large.inputs.encode(rest))
        logits[passed] = rule.second(again, [pair.language for pair in rest])
    return bundle.check_golden(logits.tolist(), tolerance)


def _sum(first: Timing, second: Timing) -> Timing:
    parts = (first.queue + second.queue, first.tokenize + second.tokenize, first.run + second.run)
    return Timing(*parts, second.ready_at)
