"""Feature density: how rarely the features of a set of texts repeat, a hint at how hard it is to learn from.

Eronen, Ptaszynski, Masui, Leliwa and Wroczynski ("Exploring the Potential of Feature Density in Estimating Machine
Learning Classifier Performance with Application to Cyberbullying Detection", 2021; "Improving Classifier Training
Efficiency for Automatic Cyberbullying Detection with Feature Density", arXiv 2111.01689) carry lexical density over to
any feature: different features divided by all features. They report that it correlates with what classifiers reach.

Departures, which are this project's own: features are words, or pairs of neighbouring characters where no spaces are
written; texts are counted once however many rows hold them, and of more than 16,384 texts only a sample of so many is
counted; and beside the plain ratio, which falls as a set grows, stands its mean over segments of a fixed size (the mean
segmental type-token ratio), which sets of unlike sizes share.
"""

import functools
import heapq
import random
import unicodedata
import zlib
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.tasks import query_key
from training.data.stored.buckets import StoredTexts

MOST_TEXTS = 16_384
_NEW_HASHES = 4096
SEGMENT = 400  # features a segment: few enough for the languages of a small dev file
_UNSPACED = frozenset({"ja", "zh", "th", "lo", "km", "my"})


class Density(BaseModel):
    """Feature density of `texts` texts: `ratio` over all of them, `segmental` over segments (None below one)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str
    texts: int
    features: int
    different: int
    ratio: float
    segmental: float | None


class TextSample:
    """Different texts by their `query_key`: all of them up to MOST_TEXTS, of more those whose hashes are the smallest.

    The texts do not depend on the order in which they come. They lie in a temporary file.
    """

    def __init__(self) -> None:
        self._texts = StoredTexts()
        self._hashes = np.empty(0, dtype=np.uint32)  # of the texts, each once, the smallest ones
        self._new: list[NDArray[np.uint32]] = []  # hashes that are still to go there

    def add(self, keys: Iterable[str]) -> None:
        """Add keys of texts. MachineError if the disk is full."""
        keys = list(keys)
        hashes = np.fromiter(map(_hash, keys), np.uint32, len(keys))
        if len(self._hashes) == MOST_TEXTS:
            at = np.flatnonzero(hashes <= self._hashes[-1])
            keys, hashes = [keys[n] for n in at.tolist()], hashes[at]
        self._texts.add(keys)
        self._new.append(hashes)
        if sum(map(len, self._new)) >= _NEW_HASHES:
            self._hashes = np.unique(np.concatenate([self._hashes, *self._new]))[:MOST_TEXTS]
            self._new = []

    def keys(self) -> list[str]:
        """Return the keys of the texts."""
        keys = set(self._texts)
        if len(keys) <= MOST_TEXTS:
            return list(keys)
        return heapq.nsmallest(MOST_TEXTS, keys, key=lambda key: (_hash(key), key))


def _hash(key: str) -> int:
    return zlib.crc32(key.encode(), 1)


def density(texts: Iterable[str], language: str = "", seed: int = 0) -> Density:
    """Return the feature density of the different texts; the seed shuffles them before they are cut into segments."""
    keys = sorted({query_key(text) for text in texts})
    random.Random(seed).shuffle(keys)
    cut = _bigrams if language in _UNSPACED else _words
    features = [feature for key in keys for feature in cut(key)]
    different = len(set(features))
    return Density(
        unit="character pairs" if language in _UNSPACED else "words",
        texts=len(keys),
        features=len(features),
        different=different,
        ratio=different / len(features) if features else 0.0,
        segmental=_segmental(features),
    )


def _segmental(features: list[str]) -> float | None:
    whole = len(features) // SEGMENT
    if not whole:
        return None
    found = [len(set(features[at * SEGMENT : (at + 1) * SEGMENT])) for at in range(whole)]
    return sum(found) / (whole * SEGMENT)


def _words(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := word if word.isalnum() else _bare(word))]


@functools.lru_cache(maxsize=1 << 16)
def _bare(word: str) -> str:
    """Return the letters, marks and numbers of a word."""
    return "".join(character for character in word if unicodedata.category(character)[0] in "LMN")


def _bigrams(text: str) -> list[str]:
    found = []
    for word in _words(text):
        found += [a + b for a, b in pairwise(word)] or [word]
    return found
