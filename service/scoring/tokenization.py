"""From pairs of text to token ids, with a cache: candidates recur from request to request. Knows no model runs.

Each different text of a request is formatted and tokenised once, and not at all if the cache holds it.
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from relevance.model.inputs import NO_FEATURES, CandidateFeatures, PairInputs
from relevance.tasks import Pair
from relevance.text.overlap import QueryLetters
from relevance.text.tokenization import TokenizedPair
from service.scoring.token_estimate import TokenEstimator, utf8_bytes

ENTRY_TOKENS = 8  # the fixed cost of an entry, counted in tokens
TOKEN_BYTES = 40

Key = str | tuple[str, str]  # a candidate, or a query and its language


class TextInput(NamedTuple):
    """What the model reads of one text: token ids, and what it contributes to the features of its pairs."""

    ids: list[int]
    query: QueryLetters | None = None
    candidate: CandidateFeatures = NO_FEATURES


class TokenCache:
    """Token ids and category prior by text, `max_tokens` at most. Used from one thread.

    Drops the least recently used entries first.

    An OrderedDict, because a dict scans the gaps of deleted entries to find its first key: 34 us per new text in a full
    cache instead of 1.3. `cachetools.LRUCache` takes twice as long as this (benchmarks/serving/caches.json).
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self.tokens = self.hits = self.misses = 0
        self._entries: OrderedDict[Key, TextInput] = OrderedDict()  # least recently used first

    def get(self, keys: Mapping[Key, Any]) -> dict[Key, TextInput]:
        """Return the entries of those keys that have one."""
        entries = self._entries
        found = {key: entry for key in keys if (entry := entries.get(key)) is not None}
        for key in found:
            entries.move_to_end(key)
        self.hits += len(found)
        self.misses += len(keys) - len(found)
        return found

    def put(self, fresh: Mapping[Key, TextInput]) -> None:
        """Add entries, then drop the least recently used ones until the rest fits."""
        for key, entry in fresh.items():
            if key not in self._entries and cost(key, entry) <= self._max_tokens:
                self._entries[key] = entry
                self.tokens += cost(key, entry)
        while self.tokens > self._max_tokens:
            self.tokens -= cost(*self._entries.popitem(last=False))


def cost(key: Key, entry: TextInput) -> int:
    """Return the memory that an entry takes, counted in tokens."""
    size = sys.getsizeof(key if isinstance(key, str) else key[0]) + entry.candidate.nbytes
    if entry.query is not None:
        size += entry.query.nbytes
    return len(entry.ids) + ENTRY_TOKENS + size // TOKEN_BYTES


class TokenizationPlan:
    """The texts of one request: which are cached, and which must be tokenised."""

    def __init__(self, pairs: Sequence[Pair], inputs: PairInputs, cache: TokenCache) -> None:
        self._inputs, self._cache = inputs, cache
        self._queries: list[Key] = [(pair.query, pair.language) for pair in pairs]
        self._candidates: list[Key] = [pair.candidate for pair in pairs]
        keys = dict.fromkeys(self._queries + self._candidates)
        self._cached = cache.get(keys)
        fresh = [key for key in keys if key not in self._cached] if len(self._cached) < len(keys) else []
        self._fresh = {key: utf8_bytes(key if isinstance(key, str) else key[0]) for key in fresh}

    @property
    def fresh_bytes(self) -> int:
        """Bytes of the texts that must be tokenised."""
        return sum(self._fresh.values())

    def estimate(self, estimator: TokenEstimator) -> int:
        """Return the estimated tokens of all pairs, special tokens included. Cached texts count exactly."""
        tokenizer = self._inputs.tokenizer
        overhead, most = tokenizer.template.overhead, tokenizer.max_length
        tokens = {key: len(entry.ids) for key, entry in self._cached.items()}
        tokens |= {key: estimator.estimate(size) for key, size in self._fresh.items()}
        queries, candidates = ([tokens[key] for key in keys] for keys in (self._queries, self._candidates))
        return int(np.minimum(most, np.add(queries, candidates) + overhead).sum())

    def encode(self) -> dict[Key, TextInput]:
        """Return what the model reads of the texts that are not cached. May run on any thread."""
        read = [self._read(key) for key in self._fresh]
        ids = self._inputs.tokenizer.encode_texts([text for text, _, _ in read])
        found = zip(self._fresh, ids, read, strict=True)
        return {key: TextInput(each, query, candidate) for key, each, (_, query, candidate) in found}

    def join(self, fresh: Mapping[Key, TextInput]) -> list[TokenizedPair]:
        """Return the tokenised pairs, and add `fresh` texts to the cache. Runs on the thread that uses the cache."""
        self._cache.put(fresh)
        texts, join = {**self._cached, **fresh}, self._inputs.tokenizer.join
        queries, candidates = map(texts.__getitem__, self._queries), map(texts.__getitem__, self._candidates)
        if not self._inputs.reads_features:
            return [join(query.ids, candidate.ids) for query, candidate in zip(queries, candidates, strict=True)]
        return [
            join(query.ids, candidate.ids, candidate.candidate.with_query(query.query))
            for query, candidate in zip(queries, candidates, strict=True)
        ]

    def _read(self, key: Key) -> tuple[str, QueryLetters | None, CandidateFeatures]:
        if isinstance(key, str):
            text, features = self._inputs.candidate(key)
            return text, None, features
        return (*self._inputs.query(*key), NO_FEATURES)
