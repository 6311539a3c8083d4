"""Draws the negatives of one positive row from a shortlist of candidates for its query."""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, query_key
from training.negatives.candidates import CandidatePool, KnownPairs
from training.negatives.options import NegativeOptions
from training.negatives.search import SearchName, Shortlist

# Quantiles of the query's own similarities. Candidates below .30 have nothing to do with the query; those above .80 may
# share its topic. Of the latter, `hard` takes the nearest that the positive's share allows, 5 % of all candidates.
_QUANTILES = {"easy": (0.30, 0.80), "hard": (0.80, 1.0)}
_HARD_SHARE = 0.05

# Quantiles of longer shortlists are those of evenly spaced candidates, at a bounded cost.
_QUANTILE_SAMPLE = 8192

# Places tried at random before all that are allowed are listed, which costs more.
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Negative:
    """A candidate (by number) drawn for a row (by index), with both similarities to the row's query."""

    row: int
    candidate: int
    strategy: str
    search: SearchName
    similarity: float
    positive_similarity: float


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request for `count` negatives of a row (by index) by one strategy.

    `attempt` is the number of negatives that the row was asked for before. `positive_similarity` is that of its query
    to its own candidate. `rng` draws the row's negatives.
    """

    row: int
    attempt: int
    strategy: str
    count: int
    positive_similarity: float
    rng: random.Random


class Sampler:
    """Draws negatives by seed: equal rows, shortlists and earlier draws give equal negatives.

    It looks at the words of queries, not at their embeddings: near queries are looked for later, for many rows at once.
    """

    def __init__(
        self, rows: Mapping[int, LabeledPair], pool: CandidatePool, known: KnownPairs, options: NegativeOptions
    ) -> None:
        self._rows, self._pool, self._known, self._options = rows, pool, known, options

    def requests(self, row: int, count: int, attempt: int, positive_similarity: float) -> list[SampleRequest]:
        """Return one request for each strategy. `attempt` numbers the calls for one row, so that each draws anew."""
        rng = _generator(self._options.seed, self._rows[row], attempt)
        shares = {self._options.strategy: count}
        if self._options.strategy == "mixed":
            hard = sum(rng.random() < self._options.hard_share for _ in range(count))
            shares = {"easy": count - hard, "hard": hard}
        return [
            SampleRequest(row, attempt, name, wanted, positive_similarity, rng)
            for name, wanted in shares.items()
            if wanted
        ]

    def draw(self, request: SampleRequest, shortlist: Shortlist, rejected: Counter[str]) -> list[Negative]:
        """Return at most `request.count` negatives and count the rejections.

        Returned pairs count as known from then on. A row that is asked once more at the same attempt comes to the same
        candidates: what was rejected up to those that it gave before is not counted again.
        """
        picks: list[Negative] = []
        counts: Counter[str] = Counter()
        for at in in_random_order(self._allowed(request, shortlist, counts), request.rng):
            candidate = int(shortlist.candidates[at])
            if self._known.was_drawn(request.row, candidate, request.attempt):
                counts.clear()
                continue
            reason = self._reason(request.row, candidate)
            if reason is not None:
                counts[reason] += 1
                continue
            self._known.add(request.row, candidate)
            similarity = float(shortlist.similarities[at])
            picks.append(
                Negative(
                    request.row, candidate, request.strategy, shortlist.search, similarity, request.positive_similarity
                )
            )
            if len(picks) == request.count:
                break
        rejected.update(counts)
        return picks

    def _allowed(self, request: SampleRequest, shortlist: Shortlist, rejected: Counter[str]) -> NDArray[np.bool_]:
        """Return True [M] for candidates in the strategy's band and below the positive's share (Moreira et al. 2024).

        NV-Retriever (arXiv 2407.15831) takes the nearest of these and calls it TopK-PercPos. Where the positive's
        cosine is not above 0, a share of it means nothing, and candidates have to be below the positive itself.
        """
        similarities, own = shortlist.similarities, request.positive_similarity
        if request.strategy == "random":
            return np.ones(len(similarities), dtype=np.bool_)
        limit = own * self._options.positive_share_limit if own > 0 else own
        low, high = self._band(request.strategy, shortlist, limit)
        too_near = similarities >= max(low, limit)
        allowed = similarities >= low
        allowed &= similarities < limit
        if high < 1:
            too_near &= similarities <= high
            allowed &= similarities <= high
        rejected["positive_share"] += int(np.count_nonzero(too_near))
        return allowed

    def _band(self, strategy: str, shortlist: Shortlist, limit: float) -> tuple[float, float]:
        """Return the band given, or that between the strategy's quantiles; a high end of 1 is open.

        For `hard` the low end is raised until only so many lie between it and `limit`. All is as good of a shortlist
        of the nearest.
        """
        if self._options.has_band or shortlist.search == "index":
            return self._options.band
        step = -(-len(shortlist.similarities) // _QUANTILE_SAMPLE)
        ordered = np.sort(shortlist.similarities[::step])
        low, high = (int(share * (len(ordered) - 1)) for share in _QUANTILES[strategy])
        if strategy == "easy":
            return float(ordered[low]), float(ordered[high])
        below = int(np.searchsorted(ordered, np.float32(limit)))
        return float(ordered[max(low, below - math.ceil(_HARD_SHARE * len(ordered)))]), 1.0

    def _reason(self, row: int, candidate: int) -> str | None:
        """Return why a candidate is no negative for a row, or None."""
        positives = self._known.positives(row)
        if candidate in positives:
            return "known_positive"
        if self._known.has(row, candidate):
            return "already_there"
        reasons = (self._pool.conflict(candidate, positive) for positive in positives)
        return next((reason for reason in reasons if reason is not None), None)


def in_random_order(allowed: NDArray[np.bool_], rng: random.Random) -> Iterator[int]:
    """Yield the allowed places in random order; the cost grows with the number of places that the caller takes."""
    if not allowed.any():
        return
    taken: set[int] = set()
    for _ in range(_TRIES):
        place = rng.randrange(len(allowed))
        if allowed[place] and place not in taken:
            taken.add(place)
            yield place
    rest = np.flatnonzero(allowed)
    moved: dict[int, int] = {}  # Fisher and Yates, without a list of all
    for n in range(len(rest)):
        other = rng.randrange(n, len(rest))
        place = int(rest[moved.get(other, other)])
        if place not in taken:
            yield place
        moved[other] = moved.get(n, n)


def _generator(seed: int, row: LabeledPair, attempt: int) -> random.Random:
    """Return a random generator that does not depend on the position of the row."""
    text = "\0".join([str(seed), row.id, query_key(row.pair.query), row.pair.candidate, str(attempt)])
    return random.Random(hashlib.sha256(text.encode()).digest())
