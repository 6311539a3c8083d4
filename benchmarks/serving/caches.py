"""What the token cache costs beside two others: `python benchmarks/serving/caches.py OUT.json`

Requests of 500 texts against a cache of 1,000,000 tokens: texts that are all in it, and texts that never were, once the
cache is full. CPU time per text: the best of several rounds for lookups, the mean of all requests for insertions, since
the cost of an eviction from a dict grows until the dict is resized. The others are
`cachetools.LRUCache` (left out where cachetools is not installed) and a plain dict whose oldest key is found by
`next(iter(...))`, which is what the service had before. Needs neither a model nor a server.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from results.report import about, write

from service.scoring.tokenization import Key, TextInput, TokenCache, cost

MAX_TOKENS, TEXTS, KNOWN, HIT_REQUESTS, FRESH_REQUESTS, ROUNDS = 1_000_000, 500, 2000, 200, 300, 5


class DictCache:
    """A dict in order of use; the oldest key is the first that iteration yields."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens, self._tokens = max_tokens, 0
        self._entries: dict[Key, TextInput] = {}

    def get(self, keys: Mapping[Key, Any]) -> dict[Key, TextInput]:
        found = {key: ids for key in keys if (ids := self._entries.pop(key, None)) is not None}
        self._entries |= found
        return found

    def put(self, fresh: Mapping[Key, TextInput]) -> None:
        for key, ids in fresh.items():
            self._entries[key] = ids
            self._tokens += cost(key, ids)
        while self._tokens > self._max_tokens:
            oldest = next(iter(self._entries))
            self._tokens -= cost(oldest, self._entries.pop(oldest))


class CachetoolsCache:
    """`cachetools.LRUCache`, each entry with its cost."""

    def __init__(self, max_tokens: int) -> None:
        from cachetools import LRUCache

        self._entries = LRUCache(max_tokens, getsizeof=lambda entry: entry[0])

    def get(self, keys: Mapping[Key, Any]) -> dict[Key, TextInput]:
        return {key: entry[1] for key in keys if (entry := self._entries.get(key)) is not None}

    def put(self, fresh: Mapping[Key, TextInput]) -> None:
        for key, ids in fresh.items():
            self._entries[key] = cost(key, ids), ids


def requests(start: int) -> Iterator[dict[Key, TextInput]]:
    """Yield requests of texts that never occurred before, without end."""
    while True:
        yield {
            f"Home & Garden,Kitchen,{start + number} cups and mugs": TextInput([number] * 10) for number in range(TEXTS)
        }
        start += TEXTS


def hits(make: Callable[[int], Any]) -> float:
    """Return microseconds per text that is in the cache."""
    cache, rng, best = make(MAX_TOKENS), random.Random(1), float("inf")
    known = [f"Home & Garden,Kitchen,{number} cups" for number in range(KNOWN)]
    cache.put({text: TextInput([1] * 10) for text in known})
    asked = [dict.fromkeys(rng.sample(known, TEXTS)) for _ in range(HIT_REQUESTS)]
    for _ in range(ROUNDS):
        began = time.process_time()
        for keys in asked:
            cache.get(keys)
        best = min(best, time.process_time() - began)
    return 1e6 * best / HIT_REQUESTS / TEXTS


def misses(make: Callable[[int], Any]) -> float:
    """Return microseconds per text that is new to a full cache: looked up, added, and an old one dropped."""
    cache, fresh, seconds = make(MAX_TOKENS), requests(0), 0.0
    for _ in range(2 * MAX_TOKENS // (cost("x" * 40, TextInput([0] * 10)) * TEXTS)):
        cache.put(next(fresh))
    for _ in range(FRESH_REQUESTS):
        texts = next(fresh)
        began = time.process_time()
        cache.get(texts)
        cache.put(texts)
        seconds += time.process_time() - began
    return 1e6 * seconds / FRESH_REQUESTS / TEXTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    caches: dict[str, Callable[[int], Any]] = {"service": TokenCache, "dict": DictCache, "cachetools": CachetoolsCache}
    found = {}
    for name, make in caches.items():
        try:
            found[name] = {"hit_us": round(hits(make), 2), "miss_when_full_us": round(misses(make), 2)}
        except ImportError:
            print(f"{name}: not installed, left out", file=sys.stderr)
    write(about(sys.argv[1:]) | {"max_tokens": MAX_TOKENS, "texts_per_request": TEXTS, "caches": found}, out)


if __name__ == "__main__":
    main()
