"""Opens any bundle: the session of one model, or the two of a cascade. Knows no rows and no scheduling."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from relevance.model.bundle import Bundle
from relevance.model.cascade import CascadeRule
from relevance.model.inputs import PairInputs
from relevance.model.session import BundleSession, Device, Read, Tokens
from relevance.model.text_cache import TextCache
from relevance.tasks import Pair


class PairModel(Protocol):
    """A bundle that is open and has passed its golden self-test: pairs of text to logits."""

    @property
    def bundle(self) -> Bundle:
        """The bundle."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda`."""

    @property
    def inputs(self) -> PairInputs:
        """How the model that scores every pair reads it."""

    def read(self, pairs: Sequence[Pair], tokens: Tokens, max_batch_tokens: int | None = None) -> Read:
        """Return the logits of pairs, given their tokens from `inputs` too. Raises as `BundleSession.logits` does."""


def open_model(bundle: Bundle, threads: int = 0, device: Device = "auto") -> PairModel:
    """Start a bundle and score its golden pairs. Raises BundleError and MachineError as `BundleSession.open` does."""
    if bundle.manifest.cascade is not None:
        return CascadeSession.open(bundle, threads, device)
    return BundleSession.open(bundle, threads, device)


@dataclass(frozen=True)
class CascadeSession:
    """A cascade: the sessions of its stages, and which pairs the large one scores again."""

    bundle: Bundle
    small: BundleSession
    large: BundleSession
    rule: CascadeRule
    texts: TextCache = field(default_factory=TextCache)  # as the large model reads them

    @classmethod
    def open(cls, bundle: Bundle, threads: int = 0, device: Device = "auto") -> Self:
        """Open both stages, each with its own self-test, and score the golden pairs of the cascade."""
        small, large = bundle.stages
        first = BundleSession.open(small, threads, device)
        large.borrow_tokenizer(small.manifest, first.tokenizer)
        opened = cls(bundle, first, BundleSession.open(large, threads, device), rule_of(bundle))
        pairs = [golden.pair for golden in bundle.golden]
        bundle.check_golden(opened.read(pairs, opened.inputs.encode(pairs)).logits.tolist())
        return opened

    @property
    def device(self) -> str:
        """Where both models run: `cpu` or `cuda`."""
        return self.large.device

    @property
    def inputs(self) -> PairInputs:
        """How the small model reads pairs."""
        return self.small.inputs

    def read(self, pairs: Sequence[Pair], tokens: Tokens, max_batch_tokens: int | None = None) -> Read:
        """Return the cascade's logits [N], and which pairs were cut where the model that answers read them."""
        languages = [pair.language for pair in pairs]
        first = self.small.read(pairs, tokens, max_batch_tokens)
        logits, passed = self.rule.first(first.logits, languages)
        places, truncated = np.flatnonzero(passed).tolist(), first.truncated.copy()
        if places:
            rest = [pairs[place] for place in places]
            queries, candidates = [pair.query for pair in rest], [pair.candidate for pair in rest]
            languages = [languages[place] for place in places]
            further = self.large.inputs.columns(queries, candidates, languages, self.texts)
            second = self.large.read(rest, further, max_batch_tokens)
            logits[places] = self.rule.second(second.logits, languages)
            truncated[places] = second.truncated
        return Read(logits, truncated)


def rule_of(bundle: Bundle) -> CascadeRule:
    """Return the rule of an opened cascade bundle. Raises ValueError for a bundle of one model."""
    if bundle.manifest.cascade is None:
        raise ValueError(f"bundle {bundle.folder}: is one model, expected a cascade")
    small, large = bundle.stages
    summary = bundle.manifest.cascade
    return CascadeRule(small.manifest, large.manifest, summary.scale, summary.band)
