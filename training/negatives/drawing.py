"""Draws the negatives of one positive row, given the similarity of its query to every candidate."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, query_key
from training.negatives.candidates import CandidatePool
from training.negatives.known import KnownPairs
from training.negatives.options import NegativeOptions

# Quantiles of the query's own similarities. Below .30 lies what has nothing to say about the query; above .80 what may
# share its topic. Of the latter, `hard` takes the nearest that the positive's share allows, 5 % of all candidates.
_QUANTILES = {"easy": (0.30, 0.80), "hard": (0.80, 1.0)}
_HARD_SHARE = 0.05

# Quantiles of longer lists are taken from evenly spaced candidates, so that their cost stays bounded.
_QUANTILE_SAMPLE = 8192


@dataclass(frozen=True, slots=True)
class Pick:
    """A candidate (by number) drawn for a row (by index), with both similarities to the row's query."""

    row: int
    candidate: int
    strategy: str
    similarity: float
    positive_similarity: float


class Drawer:
    """Draws by seed: the same rows, similarities and earlier draws give the same negatives."""

    def __init__(
        self, rows: list[LabeledPair], pool: CandidatePool, known: KnownPairs, options: NegativeOptions
    ) -> None:
        self._rows, self._pool, self._known, self._options = rows, pool, known, options

    def draw(
        self, row: int, count: int, attempt: int, similarities: NDArray[np.float32], rejected: Counter[str]
    ) -> list[Pick]:
        """Return at most `count` negatives for a row; `similarities` [C] are those of its query. Counts rejections.

        Pairs that are returned count as known from here on. `attempt` tells repeated calls for a row apart.
        """
        rng = _generator(self._options.seed, self._rows[row], attempt)
        own = float(similarities[self._pool.number(self._rows[row].pair.candidate)])
        picks: list[Pick] = []
        for strategy, wanted in self._shares(count, rng).items():
            allowed = self._allowed(strategy, similarities, own, rejected)
            for candidate in rng.permutation(allowed).tolist():
                if wanted == 0:
                    break
                reason = self._reason(row, candidate)
                if reason is None:
                    self._known.add(row, candidate)
                    picks.append(Pick(row, candidate, strategy, float(similarities[candidate]), own))
                    wanted -= 1
                else:
                    rejected[reason] += 1
        return picks

    def _shares(self, count: int, rng: np.random.Generator) -> dict[str, int]:
        if self._options.strategy != "mixed":
            return {self._options.strategy: count}
        hard = int(rng.binomial(count, self._options.hard_share))
        return {name: wanted for name, wanted in (("easy", count - hard), ("hard", hard)) if wanted}

    def _allowed(
        self, strategy: str, similarities: NDArray[np.float32], own: float, rejected: Counter[str]
    ) -> NDArray[np.int64]:
        """Return the candidates in the strategy's band and below the positive's share (Moreira et al. 2024).

        NV-Retriever (arXiv 2407.15831) takes the nearest of these and calls it TopK-PercPos. Where the positive's
        cosine is not above 0, a share of it means nothing, and candidates have to be below the positive itself.
        """
        if strategy == "random":
            return np.arange(len(similarities))
        low, high = self._options.band if self._options.has_band else _band(strategy, similarities)
        in_band = (similarities >= low) & (similarities <= high)
        below = in_band & (similarities < (own * self._options.positive_share_limit if own > 0 else own))
        rejected["positive_share"] += int(in_band.sum() - below.sum())
        allowed = np.flatnonzero(below)
        most = math.ceil(_HARD_SHARE * len(similarities))
        if strategy == "hard" and not self._options.has_band and len(allowed) > most:
            allowed = allowed[np.argpartition(similarities[allowed], -most)[-most:]]
        return np.sort(allowed)

    def _reason(self, row: int, candidate: int) -> str | None:
        """Return why a candidate is no negative for a row, or None."""
        positives = self._known.positives(row)
        if candidate in positives:
            return "known_positive"
        if self._known.has(row, candidate):
            return "already_there"
        reasons = (self._pool.kinship(candidate, positive) for positive in positives)
        return next((reason for reason in reasons if reason is not None), None)


def _band(strategy: str, similarities: NDArray[np.float32]) -> tuple[float, float]:
    """Return the band between the strategy's quantiles of a query's similarities."""
    values = similarities[:: max(len(similarities) // _QUANTILE_SAMPLE, 1)]
    ranks = [int(share * (len(values) - 1)) for share in _QUANTILES[strategy]]
    ordered = np.partition(values, ranks)
    high = _QUANTILES[strategy][1]
    return float(ordered[ranks[0]]), float(ordered[ranks[1]]) if high < 1 else 1.0 + 1e-3  # cosines round above 1


def _generator(seed: int, row: LabeledPair, attempt: int) -> np.random.Generator:
    """Return a generator that does not depend on where the row stands."""
    text = "\0".join([str(seed), row.id, query_key(row.pair.query), row.pair.candidate, str(attempt)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
