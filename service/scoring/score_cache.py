"""A memory of logits by pair, for traffic in which whole pairs recur. Off unless the operator gives it room.

One cache belongs to one loaded model, and so to one version: another version starts with an empty one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relevance.tasks import Pair


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a scored pair."""

    logit: float
    truncated: bool


class ScoreCache:
    """Logits of up to `max_pairs` pairs; what was used least recently goes first. Used from one thread."""

    def __init__(self, max_pairs: int) -> None:
        self.max_pairs = max_pairs
        self.hits = self.misses = 0
        self._kept: dict[Pair, Known] = {}  # in order of use

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, pairs: Sequence[Pair]) -> dict[Pair, Known | None]:
        """Return what is known of each different pair."""
        found = {pair: self._kept.pop(pair, None) for pair in dict.fromkeys(pairs)}
        self._kept.update({pair: known for pair, known in found.items() if known is not None})
        hits = sum(known is not None for known in found.values())
        self.hits += hits
        self.misses += len(found) - hits
        return found

    def put(self, pair: Pair, known: Known) -> None:
        """Keep a pair, and let go of the least recently used one where there is no room."""
        self._kept[pair] = known
        if len(self._kept) > self.max_pairs:
            del self._kept[next(iter(self._kept))]
