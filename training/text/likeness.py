"""How alike two texts are written."""

import functools


def bigram_f1(a: str, b: str) -> float:
    """Return the F1 of the character bigrams of two texts, in [0, 1]: as good for scripts without spaces.

    Case and spaces count; give keys of texts (relevance.tasks.query_key) where they must not.
    """
    first, second = _bigrams(a), _bigrams(b)
    shared = len(first & second)
    return 2 * shared / (len(first) + len(second)) if first or second else 1.0


@functools.lru_cache(maxsize=1 << 15)
def _bigrams(text: str) -> frozenset[str]:
    text = f" {text} "
    return frozenset(map(str.__add__, text, text[1:]))
