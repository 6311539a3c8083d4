"""Lexical overlap of a query and a candidate: nine numbers in [0, 1] that a model reads beside the tokens.

Embeddings represent model numbers, brands and misspelt words poorly; shared letters find them. A learnt form of the
hybrid score of EAR-MP (arXiv 2510.23018), which adds fixed shares of a Jaccard index and a containment to the model's
score. Trigrams of letters and whole words are bits of integers, so that comparing two texts takes some 2.5 us.
Knows no models and no tokens.
"""

import re
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from relevance.tasks import query_key

NAMES = (
    *("trigrams_contained", "trigrams_jaccard", "worst_word", "mean_word", "last_word", "first_word"),
    *("numbers_contained", "has_numbers", "inverse_words"),
)
BITS = 2048  # of an integer that stands for a set; texts have some 60 trigrams
REFERENCE_BYTES = 8  # of a tuple or an object to one of its values
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class CandidateLetters:
    """The trigrams and the words of a candidate, as integers whose bits are hashes."""

    trigrams: int
    words: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the sets of a text. Case, punctuation and compatibility forms (NFKC) do not matter."""
        words = _words(text)
        return cls(_trigrams(" ".join(words)), _union(map(_bit, words)))

    @property
    def nbytes(self) -> int:
        """The memory of the sets in bytes."""
        return _nbytes((self.trigrams, self.words))


@dataclass(frozen=True, slots=True)
class QueryLetters:
    """The trigrams of a query, the trigrams of each of its words, and its words with digits."""

    trigrams: int
    words: tuple[int, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the sets of a text. Case, punctuation and compatibility forms (NFKC) do not matter."""
        words = _words(text)
        numbers = tuple(_bit(word) for word in words if any(map(str.isdecimal, word)))
        return cls(_trigrams(" ".join(words)), tuple(map(_trigrams, words)), numbers)

    @property
    def nbytes(self) -> int:
        """The memory of the sets in bytes."""
        return _nbytes((self.trigrams, *self.words, *self.numbers))

    def overlap(self, candidate: CandidateLetters) -> tuple[float, ...]:
        """Return the features `NAMES` of this query with a candidate.

        The share of the query's trigrams that the candidate has, and the Jaccard index of both; the share of each
        word's trigrams that the candidate has: the worst, the mean, the last and the first word's; the share of the
        query's words with digits that are words of the candidate, and whether there are any; one over the number of
        words.
        """
        theirs, ours = candidate.trigrams, self.trigrams
        shared = (ours & theirs).bit_count()
        words = [(each & theirs).bit_count() / each.bit_count() for each in self.words] or [0.0]
        numbers = [each & candidate.words != 0 for each in self.numbers]
        return (
            *(shared / (ours.bit_count() or 1), shared / ((ours | theirs).bit_count() or 1)),
            *(min(words), sum(words) / len(words), words[-1], words[0]),
            *(sum(numbers) / (len(numbers) or 1), float(bool(numbers)), 1 / len(words)),
        )


def _nbytes(sets: Iterable[int]) -> int:
    return sum([sys.getsizeof(each) + REFERENCE_BYTES for each in sets])


def _words(text: str) -> list[str]:
    return _WORD.findall(query_key(text))


def _trigrams(text: str) -> int:
    """Return the set of trigrams of a text with a space at both ends; the empty set for no text."""
    padded = f" {text} " if text else ""
    return _union(_bit(padded[at : at + 3]) for at in range(len(padded) - 2))


def _union(bits: Iterable[int]) -> int:
    found = 0
    for bit in bits:
        found |= bit
    return found


def _bit(text: str) -> int:
    return 1 << (zlib.crc32(text.encode("utf-8", "surrogatepass")) % BITS)
