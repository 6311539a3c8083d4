"""Queries that mean the same in other words: by their words, and by their embeddings.

The positives of one are known positives of the other. Both rules are cautious: a mistake loses a good
negative, which costs less than a wrong label.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, query_key
from training.data.groups import group_key, linked_keys
from training.data.stored.batches import in_chunks
from training.data.stored.buckets import bucket_numbers
from training.data.stored.rows import queries_of
from training.data.stored.spool import Spool, buckets_for
from training.embedding.candidate_vectors import Vectors
from training.text.numbers import lost_number

_APOSTROPHES = re.compile("['’`´ʼ]")
_POINTS = re.compile(r"(?<!\d)[.,]|[.,](?!\d)")
_OTHERS = re.compile(r"[^\w.,]+|_")
_ACCENTS = re.compile("[\u0300-\u036f]")
_ENDINGS = frozenset("aeiosny" + "аеёиоуыэюяйь" + "αεηιοςυσω")  # of plurals and cases
_LEAST_STEM = 3
_MOST_QUERIES = 1024  # of one candidate that are compared with a query; more are sampled evenly
_BLOCK_PAIRS = 2048  # that are compared at once with the queries of one candidate
_KEPT_FORMS = 1 << 16
_FORMS = pa.schema({"words": pa.string(), "joined": pa.string()})
_POSITIVES = pa.schema({"candidate": pa.int32(), "number": pa.int32(), "query": pa.string()})


def near_groups(rows: Sequence[LabeledPair]) -> Iterator[str]:
    """Yield a group id for each row: rows are linked as training.data.groups says, or by queries of the same words.

    Word order, punctuation, accents, endings of plurals and blanks between words make no difference; digits do. In
    memory are the queries that are linked with another, and no others.
    """
    forms = functools.lru_cache(maxsize=_KEPT_FORMS)(_forms)

    def key_of(query: str) -> str:
        return forms(query)[0]

    linked = linked_keys(rows, key_of, _same_without_blanks(map(forms, queries_of(rows)), len(rows)))
    return (linked.get(key, key) for key in map(key_of, queries_of(rows)))


def _same_without_blanks(forms: Iterator[tuple[str, str]], size: int) -> Iterator[tuple[str, str]]:
    """Yield the keys of queries that are the same without blanks, two by two, given the forms of `size` queries."""
    spool = Spool(_FORMS, buckets_for(size))
    for chunk in in_chunks(forms):
        words, joined = zip(*dict.fromkeys(chunk), strict=True)
        batch = pa.RecordBatch.from_arrays([pa.array(words, pa.string()), pa.array(joined, pa.string())], schema=_FORMS)
        spool.scatter(batch, bucket_numbers(joined, spool.buckets))
    for bucket in range(spool.buckets):
        first: dict[str, str] = {}
        for batch in spool.batches(bucket):
            for words, joined in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if first.setdefault(joined, words) != words:
                    yield first[joined], words


class NearQueries:
    """Finds candidates that are positive for a query near another one, by cosines of their embeddings.

    Queries have numbers. The queries that a candidate is positive for lie on disk, in buckets by the candidate.
    """

    def __init__(self, candidates: int, rows: int, least: float) -> None:
        """Take the number of candidates, about how many pairs `add` will get, and the least cosine of near queries."""
        self._candidates, self._least = candidates, least
        self._spool = Spool(_POSITIVES, buckets_for(rows))

    @property
    def buckets(self) -> int:
        """The number of buckets."""
        return self._spool.buckets

    def bucket_of(self, candidates: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the bucket [N] of each candidate: greater ones are in later buckets."""
        return candidates.astype(np.int64) * self.buckets // self._candidates

    def add(self, candidates: NDArray[np.int32], numbers: NDArray[np.int32], queries: Sequence[str]) -> None:
        """Note positive pairs [N]: candidate, number of the query, and the query. MachineError if the disk is full."""
        columns = [pa.array(candidates), pa.array(numbers), pa.array(queries, pa.string())]
        self._spool.scatter(pa.RecordBatch.from_arrays(columns, schema=_POSITIVES), self.bucket_of(candidates))

    def is_near(self, bucket: int, pairs: pa.RecordBatch, vectors: Vectors) -> NDArray[np.bool_]:
        """Return True [N] for pairs whose candidate is positive for a near query with the same numbers.

        `pairs` have candidates of this bucket, the number of their query in `text`, and the `query`. `vectors` are
        those of all queries by their numbers.
        """
        known = self._spool.whole(bucket).sort_by([("candidate", "ascending"), ("number", "ascending")])
        places = known.column("candidate").to_numpy()
        found = np.zeros(pairs.num_rows, dtype=bool)
        wanted = pairs.column("candidate").to_numpy()
        order = np.argsort(wanted, kind="stable")
        for of_one in np.split(order, np.flatnonzero(np.diff(wanted[order])) + 1) if len(order) else ():
            start, end = np.searchsorted(places, [wanted[of_one[0]], wanted[of_one[0]] + 1])
            if start < end:
                members = known.slice(start, end - start)
                found[of_one] = self._near(members, pairs.take(pa.array(of_one)), vectors)
        return found

    def _near(self, members: pa.RecordBatch, pairs: pa.RecordBatch, vectors: Vectors) -> NDArray[np.bool_]:
        """Return True [N] for pairs with a query near one of those that their one candidate is positive for."""
        numbers, first = np.unique(members.column("number").to_numpy(), return_index=True)
        step = max(len(numbers) / _MOST_QUERIES, 1.0)
        some = (np.arange(min(len(numbers), _MOST_QUERIES)) * step).astype(np.int64)
        others = vectors.take(numbers[some]).T
        found = np.zeros(pairs.num_rows, dtype=bool)
        for start in range(0, pairs.num_rows, _BLOCK_PAIRS):
            block = pairs.slice(start, _BLOCK_PAIRS)
            near = vectors.take(block.column("text").to_numpy()) @ others >= self._least
            for at in np.flatnonzero(near.any(axis=1)).tolist():
                query = block.column("query")[at].as_py()
                theirs = members.column("query").take(pa.array(first[some][near[at]])).to_pylist()
                found[start + at] = any(lost_number(query, other) is None for other in theirs)
        return found


def _forms(query: str) -> tuple[str, str]:
    """Return the key of a query's words: their sorted stems; and the query without blanks."""
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", group_key(query))))
    words = _OTHERS.sub(" ", _POINTS.sub(" ", _APOSTROPHES.sub("", text))).split()
    if not words:
        return group_key(query), group_key(query)
    return query_key(" ".join(sorted(map(_stem, words)))), "".join(words)


def _stem(word: str) -> str:
    if any(map(str.isdigit, word)):
        return word
    end = len(word)
    while end > _LEAST_STEM and word[end - 1] in _ENDINGS:
        end -= 1
    return word[:end]
