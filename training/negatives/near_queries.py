"""Queries that mean the same in other words: by their words, and by their embeddings.

The positives of one are known positives of the other. Both rules are cautious: a mistake loses a good
negative, which costs less than a wrong label.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, query_key
from training.data.extras import SOURCE_ID, source_ids
from training.data.groups import linked_groups
from training.embedding.candidate_vectors import Vectors
from training.negatives.candidates import KnownPairs
from training.text.numbers import lost_number

_APOSTROPHES = re.compile("['’`´ʼ]")
_POINTS = re.compile(r"(?<!\d)[.,]|[.,](?!\d)")
_OTHERS = re.compile(r"[^\w.,]+|_")
_ACCENTS = re.compile("[\u0300-\u036f]")
_ENDINGS = frozenset("aeiosny" + "аеёиоуыэюяйь" + "αεηιοςυσω")  # of plurals and cases
_LEAST_STEM = 3
_MOST_QUERIES = 1024  # of one candidate that are compared with a query; more are sampled evenly
_KEPT_MATRICES = 64


def near_groups(rows: Sequence[LabeledPair]) -> list[str]:
    """Return one group id [N] per row: rows linked as training.data.groups says, or by queries of the same words.

    Word order, punctuation, accents, endings of plurals and blanks between words make no difference; digits do.
    """
    forms = {query: _forms(query) for query in dict.fromkeys(row.pair.query for row in rows)}
    return linked_groups([_by_form(row, *forms[row.pair.query]) for row in rows])


class NearQueries:
    """Finds candidates that are positive for a query near another one, by cosines of their embeddings.

    `query_of` gives the number in `queries` of every positive row, whatever its language.
    """

    def __init__(
        self,
        queries: Vectors,
        query_of: Mapping[int, int],
        rows: Sequence[LabeledPair],
        known: KnownPairs,
        least: float,
    ) -> None:
        self._queries, self._query_of, self._rows, self._known, self._least = queries, query_of, rows, known, least
        self._vectors = functools.lru_cache(maxsize=_KEPT_MATRICES)(self._vectors)

    def has_positive(self, row: int, candidate: int) -> bool:
        """Whether a candidate is positive for a query whose cosine to the row's is high and whose numbers are its."""
        members, vectors = self._vectors(candidate)
        if not members:
            return False
        own = self._queries.take(np.array([self._query_of[row]]))[0]
        query = self._rows[row].pair.query
        near = np.flatnonzero(vectors @ own >= self._least)
        return any(lost_number(query, self._rows[members[at]].pair.query) is None for at in near)

    def _vectors(self, candidate: int) -> tuple[list[int], NDArray[np.float32]]:
        """Return a row for each different query that a candidate is positive for, and their vectors."""
        rows = {self._query_of[row]: row for row in self._known.positive_rows(candidate)}
        step = max(len(rows) / _MOST_QUERIES, 1.0)
        some = [list(rows)[int(n * step)] for n in range(min(len(rows), _MOST_QUERIES))]
        return [rows[number] for number in some], self._queries.take(np.array(some, dtype=np.int64))


def _by_form(row: LabeledPair, words: str, joined: str) -> LabeledPair:
    """Return a row that training.data.groups links by both forms of its query."""
    extra = {SOURCE_ID: [*source_ids(row), f"\0{joined}"]}
    return replace(row, pair=replace(row.pair, query=words), extra=row.extra | extra)


def _forms(query: str) -> tuple[str, str]:
    """Return the sorted stems of a query's words, and the query without blanks."""
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", query_key(query))))
    words = _OTHERS.sub(" ", _POINTS.sub(" ", _APOSTROPHES.sub("", text))).split()
    if not words:
        return query_key(query), query_key(query)
    return " ".join(sorted(map(_stem, words))), "".join(words)


def _stem(word: str) -> str:
    if any(map(str.isdigit, word)):
        return word
    end = len(word)
    while end > _LEAST_STEM and word[end - 1] in _ENDINGS:
        end -= 1
    return word[:end]
