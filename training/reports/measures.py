"""The data report, counted from labelled rows: JSON, or a page by `data_page`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from relevance.tasks import LabeledPair, Task
from training.data.stored.buckets import RowsByQuery
from training.data.stored.rows import batches_of
from training.data.stored.spool import buckets_for
from training.progress import Meter
from training.reports.counts import CandidateCounts, LeakCounts, QueryCounts, quantile, tagged
from training.reports.density import density
from training.reports.figures import DataReport, FileFigures, Histogram
from training.text.languages import TagJudge

_BINS = 20


def measure(files: Mapping[str, Sequence[LabeledPair]], task: Task, *, tags: bool = True) -> DataReport:
    """Return the figures of files by name. With `tags`, language tags are judged over all files together.

    One bucket of rows of each file is in memory at a time, all rows of a query in one; beside it the different category
    paths and words. The rows lie in temporary files (training.data.stored.spool).

    Raises MachineError when tags are to be judged and lingua is not installed, and when the disk is full.
    """
    buckets = max(map(buckets_for, map(len, files.values())))
    by_query = {name: RowsByQuery(batches_of(rows), buckets) for name, rows in files.items()}
    judge = TagJudge() if tags else None
    if judge:
        for number in range(buckets):
            judge.see({pair for rows in by_query.values() for pair in tagged(rows.bucket(number))})
    counts = {name: QueryCounts() for name in files}
    leaks = {pair: LeakCounts(*pair) for pair in combinations(files, 2)}
    with Meter("report", sum(map(len, files.values())), "row") as meter:
        for number in range(buckets):
            found = {name: rows.bucket(number) for name, rows in by_query.items()}
            for name, rows in found.items():
                counts[name].add(rows, judge)
                meter.advance(rows.num_rows)
            for pair, leak in leaks.items():
                leak.add(*(found[name] for name in pair))
    del by_query
    candidates = {name: CandidateCounts(rows, task) for name, rows in files.items()}
    widths = [_width([each[name].lengths for name in files]) for each in (counts, candidates)]
    return DataReport(
        task=task,
        files=tuple(_file(name, counts[name], candidates[name], widths) for name in files),
        leaks=tuple(leak.leak() for leak in leaks.values()),
    )


def _file(name: str, queries: QueryCounts, candidates: CandidateCounts, widths: Sequence[int]) -> FileFigures:
    return FileFigures(
        name=name,
        rows=queries.rows,
        positive=queries.positive,
        queries=queries.queries,
        candidates=candidates.texts,
        languages=queries.by_language(),
        query_lengths=_histogram(queries.lengths, widths[0]),
        candidate_lengths=_histogram(candidates.lengths, widths[1]),
        candidate_density=density(candidates.sample.keys()),
        depths=dict(sorted(candidates.depths.items())),
        votes=queries.votes.report(),
        tags=queries.tags.report() if queries.tags.judged else None,
    )


def _width(lengths: Sequence[Counter[int]]) -> int:
    """Return the bin width, of 1 2 5 10 20 .., at which the 99th percentile is in one of the first bins."""
    far = quantile(sum(lengths, Counter[int]()), 0.99, least=1)
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power * (_BINS - 1) > far:
                return step * power
        power *= 10


def _histogram(lengths: Counter[int], width: int) -> Histogram:
    counts: Counter[int] = Counter()
    for length, times in lengths.items():
        counts[min(length // width, _BINS - 1)] += times
    return Histogram(width=width, counts=tuple(counts[at] for at in range(_BINS)))
