"""Counts of one file of rows, bucket by bucket: its queries by language, its candidates, what it shares with another.

Figures of different texts are sums over buckets, since equal texts lie in one bucket.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from relevance.tasks import LabeledPair, Task, query_key
from relevance.text.formatting import find_separator, path_levels
from training.cleaning.tags import TagCounts
from training.data.stored.buckets import TEXT, bucket_numbers
from training.data.stored.rows import batches_of
from training.data.stored.spool import Spool, buckets_for
from training.data.votes.contradictions import Contradictions
from training.data.votes.merging import VoteMerger
from training.reports.density import TextSample, density
from training.reports.figures import LanguageFigures, Leak
from training.text.languages import TagJudge
from training.text.scripts import scripts_of

_EXAMPLES = 20
_QUANTILES = {"median": 0.5, "p95": 0.95, "longest": 1.0}


def tagged(rows: pa.RecordBatch) -> list[tuple[str, str]]:
    """Return the query and the language [N] of rows."""
    return list(zip(rows.column("query").to_pylist(), rows.column("language").to_pylist(), strict=True))


def quantile(counts: Counter[int], share: float, least: int = 0) -> int:
    """Return the smallest value that so large a share of the counted values does not exceed; `least` of none."""
    place, seen = math.ceil(share * counts.total()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= place:
            return value
    return least


@dataclass
class _LanguageCounts:
    """Counts of the rows of one language tag."""

    rows: int = 0
    positive: int = 0
    queries: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    sample: TextSample = field(default_factory=TextSample)

    def add(self, rows: pa.RecordBatch) -> None:
        """Count rows; all of a query are among them."""
        self.rows += rows.num_rows
        self.positive += pc.sum(rows.column("label")).as_py()
        keys = rows.column("key").unique().to_pylist()
        self.queries += len(keys)
        self.sample.add(keys)
        for query in rows.column("query").unique().to_pylist():
            self.lengths[len(query)] += 1
            self.letters.update(scripts_of(query))

    def figures(self, language: str) -> LanguageFigures:
        """Return the figures."""
        return LanguageFigures(
            rows=self.rows,
            positive=self.positive,
            queries=self.queries,
            query_characters={name: quantile(self.lengths, share) for name, share in _QUANTILES.items()},
            query_density=density(self.sample.keys(), language),
            scripts=dict(self.letters.most_common()),
        )


class QueryCounts:
    """Counts of a file by query: rows, lengths, languages, votes and tags."""

    def __init__(self) -> None:
        self.rows = self.positive = self.queries = 0
        self.lengths: Counter[int] = Counter()  # of different queries, in characters
        self.votes = VoteMerger(Contradictions.MERGE)
        self.tags = TagCounts()
        self._languages: dict[str, _LanguageCounts] = {}

    def add(self, rows: pa.RecordBatch, judge: TagJudge | None) -> None:
        """Count a bucket of rows (KEYED)."""
        if not rows.num_rows:
            return
        self.rows += rows.num_rows
        self.positive += pc.sum(rows.column("label")).as_py()
        self.queries += pc.count_distinct(rows.column("key")).as_py()
        self.lengths.update(map(len, rows.column("query").unique().to_pylist()))
        for language in rows.column("language").unique().to_pylist():
            counts = self._languages.setdefault(language, _LanguageCounts())
            counts.add(rows.filter(pc.equal(rows.column("language"), language)))
        for _ in self.votes.merge(rows):
            pass
        if judge:
            pairs = tagged(rows)
            self.tags.add(pairs, judge.verdicts(pairs), rows.column("place").to_pylist())

    def by_language(self) -> dict[str, LanguageFigures]:
        """Return the figures of each language, the one of most rows first."""
        most = sorted(self._languages.items(), key=lambda item: (-item[1].rows, item[0]))
        return {language: counts.figures(language) for language, counts in most}


class CandidateCounts:
    """Counts of the different candidates of a file; `depths` are those of category paths."""

    def __init__(self, rows: Iterable[LabeledPair], task: Task) -> None:
        self.texts = 0
        self.lengths: Counter[int] = Counter()
        self.depths: Counter[int] = Counter()
        self.sample = TextSample()
        size = len(rows)
        different = Spool(TEXT, buckets_for(size))
        for batch in batches_of(rows):
            texts = batch.column("candidate").unique()
            numbers = bucket_numbers(texts.to_pylist(), different.buckets)
            different.scatter(pa.RecordBatch.from_arrays([texts], schema=TEXT), numbers)
        paths: set[str] = set()
        for bucket in range(different.buckets):
            texts = different.whole(bucket).column("text").unique().to_pylist()
            self.texts += len(texts)
            self.lengths.update(map(len, texts))
            self.sample.add(map(query_key, texts))
            paths.update(texts if task is Task.QC else ())
        if task is Task.QC:
            separator = find_separator(paths)
            self.depths.update(len(path_levels(path, separator)) for path in paths)


class LeakCounts:
    """Counts the queries that two files share."""

    def __init__(self, first: str, second: str) -> None:
        self._names = (first, second)
        self._queries = 0
        self._rows = [0, 0]
        self._examples: list[tuple[int, str]] = []  # with the place in the first file

    def add(self, first: pa.RecordBatch, second: pa.RecordBatch) -> None:
        """Count the same bucket of both files."""
        shared = pc.unique(first.column("key").filter(pc.is_in(first.column("key"), second.column("key"))))
        if not len(shared):
            return
        self._queries += len(shared)
        for at, rows in enumerate((first, second)):
            self._rows[at] += pc.sum(pc.is_in(rows.column("key"), shared)).as_py()
        rows = first.filter(pc.is_in(first.column("key"), shared))
        spelled: dict[str, tuple[int, str]] = {}
        names = (rows.column(name).to_pylist() for name in ("key", "place", "query"))
        for key, place, query in zip(*names, strict=True):
            spelled.setdefault(key, (place, query))
        self._examples = heapq.nsmallest(_EXAMPLES, [*self._examples, *spelled.values()])

    def leak(self) -> Leak:
        """Return the counts."""
        return Leak(
            first=self._names[0],
            second=self._names[1],
            queries=self._queries,
            first_rows=self._rows[0],
            second_rows=self._rows[1],
            examples=tuple(query for _, query in self._examples),
        )
