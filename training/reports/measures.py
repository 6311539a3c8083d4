"""The figures of the data report, counted from labelled rows: JSON, or a page by `data_page`."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, Task, query_key
from relevance.text.formatting import find_separator, path_levels
from training.cleaning.tags import TagReport, report_tags
from training.data.splits import leaks
from training.data.votes import Contradictions, VoteReport, merge_votes
from training.reports.density import Density, density
from training.text.languages import Verdict, check_tags
from training.text.scripts import scripts_of

_BINS = 20
_EXAMPLES = 20
_QUANTILES = {"median": 0.5, "p95": 0.95, "longest": 1.0}


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageFigures(_Figures):
    """The rows of one language tag."""

    rows: int
    positive: int
    queries: int
    query_characters: dict[str, int]
    query_density: Density
    scripts: dict[str, int]


class Histogram(_Figures):
    """Counts of values in bins of one width; the last bin holds everything from its start on."""

    width: int
    counts: tuple[int, ...]


class FileFigures(_Figures):
    """One file. Lengths are in characters, of different queries and candidates; scripts are counted in letters."""

    name: str
    rows: int
    positive: int
    queries: int
    candidates: int
    languages: dict[str, LanguageFigures]
    query_lengths: Histogram
    candidate_lengths: Histogram
    candidate_density: Density
    depths: dict[int, int]
    votes: VoteReport
    tags: TagReport | None


class Leak(_Figures):
    """Queries that two files share, and how many rows of each they take with them."""

    first: str
    second: str
    queries: int
    first_rows: int
    second_rows: int
    examples: tuple[str, ...]


class DataReport(_Figures):
    """The report on one or several files of one task."""

    task: Task
    files: tuple[FileFigures, ...]
    leaks: tuple[Leak, ...]


def measure(files: Mapping[str, Sequence[LabeledPair]], task: Task, *, tags: bool = True) -> DataReport:
    """Return the figures of files by name. With `tags`, language tags are judged over all files together.

    Raises MachineError when tags are to be judged and lingua is not installed.
    """
    tagged = ((row.pair.query, row.pair.language) for rows in files.values() for row in rows)
    verdicts = check_tags(tagged) if tags else None
    widths = [_width([len(text) for rows in files.values() for text in _texts(rows, which)]) for which in (0, 1)]
    return DataReport(
        task=task,
        files=tuple(_file(name, rows, task, widths, verdicts) for name, rows in files.items()),
        leaks=tuple(_leak(*pair) for pair in combinations(files.items(), 2)),
    )


def _file(
    name: str,
    rows: Sequence[LabeledPair],
    task: Task,
    widths: Sequence[int],
    verdicts: Mapping[tuple[str, str], Verdict] | None,
) -> FileFigures:
    queries, candidates = _texts(rows, 0), _texts(rows, 1)
    by_language: defaultdict[str, list[LabeledPair]] = defaultdict(list)
    for row in rows:
        by_language[row.pair.language].append(row)
    most = sorted(by_language.items(), key=lambda item: (-len(item[1]), item[0]))
    return FileFigures(
        name=name,
        rows=len(rows),
        positive=sum(row.label for row in rows),
        queries=len({query_key(query) for query in queries}),
        candidates=len(candidates),
        languages={language: _language(language, members) for language, members in most},
        query_lengths=_histogram(map(len, queries), widths[0]),
        candidate_lengths=_histogram(map(len, candidates), widths[1]),
        candidate_density=density(candidates),
        depths=_depths(candidates) if task is Task.QC else {},
        votes=merge_votes(rows, Contradictions.MERGE)[1],
        tags=report_tags([(row.pair.query, row.pair.language) for row in rows], verdicts)
        if verdicts is not None
        else None,
    )


def _language(language: str, rows: Sequence[LabeledPair]) -> LanguageFigures:
    queries = _texts(rows, 0)
    lengths = sorted(map(len, queries))
    letters: Counter[str] = Counter()
    for query in queries:
        letters.update(scripts_of(query))
    return LanguageFigures(
        rows=len(rows),
        positive=sum(row.label for row in rows),
        queries=len({query_key(query) for query in queries}),
        query_characters={name: lengths[math.ceil(share * len(lengths)) - 1] for name, share in _QUANTILES.items()},
        query_density=density(queries, language),
        scripts=dict(letters.most_common()),
    )


def _texts(rows: Sequence[LabeledPair], which: int) -> list[str]:
    """Return the different queries (0) or candidates (1), in order of first use."""
    return list(dict.fromkeys((row.pair.query, row.pair.candidate)[which] for row in rows))


def _width(lengths: Sequence[int]) -> int:
    """Return the bin width, of 1 2 5 10 20 .., at which the 99th percentile is in one of the first bins."""
    far = sorted(lengths)[math.ceil(0.99 * len(lengths)) - 1] if lengths else 1
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power * (_BINS - 1) > far:
                return step * power
        power *= 10


def _histogram(lengths: "map[int]", width: int) -> Histogram:
    counts = Counter(min(length // width, _BINS - 1) for length in lengths)
    return Histogram(width=width, counts=tuple(counts[at] for at in range(_BINS)))


def _depths(paths: Sequence[str]) -> dict[int, int]:
    separator = find_separator(paths)
    return dict(sorted(Counter(len(path_levels(path, separator)) for path in paths).items()))


def _leak(first: tuple[str, Sequence[LabeledPair]], second: tuple[str, Sequence[LabeledPair]]) -> Leak:
    shared = leaks(first[1], second[1])
    keys = set(map(query_key, shared))
    return Leak(
        first=first[0],
        second=second[0],
        queries=len(shared),
        first_rows=sum(query_key(row.pair.query) in keys for row in first[1]),
        second_rows=sum(query_key(row.pair.query) in keys for row in second[1]),
        examples=tuple(shared[:_EXAMPLES]),
    )
