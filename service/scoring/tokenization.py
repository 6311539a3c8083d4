"""From pairs of text to token ids, with a cache: candidates recur from request to request. Knows no model runs.

Each different text of a request is formatted and tokenised once, and not at all if the cache holds it.
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relevance.card import ModelCard
from relevance.tasks import Pair
from relevance.tokenization import PairTokenizer, TokenizedPair
from service.scoring.token_estimate import TokenEstimator, utf8_bytes

ENTRY_TOKENS = 8  # the fixed cost of an entry, counted in tokens
TOKEN_BYTES = 40

Key = str | tuple[str, str]  # a candidate, or a query and its language
Ids = list[int]


class TokenCache:
    """Token ids by text, `max_tokens` at most. Drops the least recently used entries first. Used from one thread.

    An OrderedDict, because a dict scans the gaps of deleted entries to find its first key: 34 us per new text in a full
    cache instead of 1.3. `cachetools.LRUCache` takes twice as long as this (benchmarks/serving/caches.json).
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self.tokens = self.hits = self.misses = 0
        self._entries: OrderedDict[Key, Ids] = OrderedDict()  # least recently used first

    def get(self, keys: Mapping[Key, Any]) -> dict[Key, Ids]:
        """Return the entries of those keys that have one."""
        entries = self._entries
        found = {key: ids for key in keys if (ids := entries.get(key)) is not None}
        for key in found:
            entries.move_to_end(key)
        self.hits += len(found)
        self.misses += len(keys) - len(found)
        return found

    def put(self, fresh: Mapping[Key, Ids]) -> None:
        """Add entries, then drop the least recently used ones until the rest fits."""
        for key, ids in fresh.items():
            if key not in self._entries and cost(key, ids) <= self._max_tokens:
                self._entries[key] = ids
                self.tokens += cost(key, ids)
        while self.tokens > self._max_tokens:
            self.tokens -= cost(*self._entries.popitem(last=False))


def cost(key: Key, ids: Ids) -> int:
    """Return the memory that an entry takes, counted in tokens."""
    return len(ids) + ENTRY_TOKENS + sys.getsizeof(key if isinstance(key, str) else key[0]) // TOKEN_BYTES


class TokenizationPlan:
    """The texts of one request: which are cached, and which must be tokenised."""

    def __init__(self, pairs: Sequence[Pair], card: ModelCard, tokenizer: PairTokenizer, cache: TokenCache) -> None:
        self._card, self._tokenizer, self._cache = card, tokenizer, cache
        self._queries: list[Key] = [(pair.query, pair.language) for pair in pairs]
        self._candidates: list[Key] = [pair.candidate for pair in pairs]
        keys = dict.fromkeys(self._queries + self._candidates)
        self._ids = cache.get(keys)
        fresh = [key for key in keys if key not in self._ids] if len(self._ids) < len(keys) else []
        self._fresh = {key: utf8_bytes(key if isinstance(key, str) else key[0]) for key in fresh}

    @property
    def fresh_bytes(self) -> int:
        """Bytes of the texts that must be tokenised."""
        return sum(self._fresh.values())

    def estimate(self, estimator: TokenEstimator) -> int:
        """Return the estimated tokens of all pairs, special tokens included. Cached texts count exactly."""
        overhead, most = self._tokenizer.template.overhead, self._tokenizer.max_length
        tokens = {key: len(ids) for key, ids in self._ids.items()}
        tokens |= {key: estimator.estimate(size) for key, size in self._fresh.items()}
        queries, candidates = ([tokens[key] for key in keys] for keys in (self._queries, self._candidates))
        return int(np.minimum(most, np.add(queries, candidates) + overhead).sum())

    def encode(self) -> dict[Key, Ids]:
        """Return the ids of the texts that are not cached. May run on any thread."""
        return dict(zip(self._fresh, self._tokenizer.encode_texts(list(map(self._text, self._fresh))), strict=True))

    def join(self, fresh: Mapping[Key, Ids]) -> list[TokenizedPair]:
        """Return the tokenised pairs, and add `fresh` ids to the cache. Runs on the thread that uses the cache."""
        self._cache.put(fresh)
        ids = {**self._ids, **fresh}
        queries, candidates = map(ids.__getitem__, self._queries), map(ids.__getitem__, self._candidates)
        return list(map(self._tokenizer.join, queries, candidates))

    def _text(self, key: Key) -> str:
        if isinstance(key, str):
            return self._card.format.candidate_text(self._card.task, key)
        return self._card.format.query_text(*key)
