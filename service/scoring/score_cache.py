"""A cache of logits by pair, for traffic in which whole pairs recur. Off by default. Knows no model.

A cache belongs to one loaded model, so each model version starts with an empty one.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from relevance.tasks import Pair


@dataclass(frozen=True, slots=True)
class CachedLogit:
    """The logit of a scored pair, and whether the pair was truncated."""

    logit: float
    truncated: bool


class ScoreCache:
    """Logits of up to `max_pairs` pairs. Drops the least recently used pair first. Used from one thread."""

    def __init__(self, max_pairs: int) -> None:
        self.max_pairs = max_pairs
        self.hits = self.misses = 0
        self._entries: OrderedDict[Pair, CachedLogit] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, pairs: Sequence[Pair]) -> dict[Pair, CachedLogit | None]:
        """Return the entry of each different pair, or None."""
        entries = self._entries
        found = {pair: entries.get(pair) for pair in dict.fromkeys(pairs)}
        known = [pair for pair, entry in found.items() if entry is not None]
        for pair in known:
            entries.move_to_end(pair)
        hits = len(known)
        self.hits += hits
        self.misses += len(found) - hits
        return found

    def put(self, pair: Pair, entry: CachedLogit) -> None:
        """Add a pair, and drop the least recently used one if there are more than `max_pairs`."""
        self._entries[pair] = entry
        if len(self._entries) > self.max_pairs:
            self._entries.popitem(last=False)
