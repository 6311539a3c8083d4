"""Split labelled pairs so that no query is in two splits, and write the files of splits.

A query with all its candidates goes to one split, whatever its case, white space and invisible characters. The unit
can be a larger group (a query with its translations, see training.data.groups). Every pair of language and label is
distributed over the splits by the fractions, as closely as whole groups allow.
"""

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Task
from training.data.files.columns import QUERY_FIELD
from training.data.files.writers import write_file
from training.data.groups import group_key
from training.data.splitting.assignment import TRAIN, assign
from training.data.splitting.group_table import GroupTable
from training.data.stored.batches import SCHEMA
from training.data.stored.buckets import distinct
from training.data.stored.joins import matched
from training.data.stored.rows import StoredRows, batches_of, filtered, in_order, queries_of, strata_of
from training.data.stored.spool import Spool
from training.data.values import json_id

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({TRAIN: 0.8, "dev": 0.1, "test": 0.1})


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Counts of one split: rows, distinct queries, the share of positive labels and the rows by language."""

    name: str
    rows: int
    queries: int
    positive_share: float
    languages: dict[str, int]


def split_pairs(
    rows: Sequence[LabeledPair],
    *,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int,
    held_out_languages: Collection[str] = (),
    groups: Iterable[str] | None = None,
) -> dict[str, StoredRows]:
    """Return the rows by split, in their order. The result depends on the rows and the seed, not on the order of rows.

    `groups` [N] gives the group id of each row; the default is the key of its query. How groups are placed says
    `training.data.splitting.assignment`. A group with a held-out language is never in `train`. In memory are some 30
    bytes a group and one a row; the rows of splits lie in temporary files.

    Raises InputError if fractions are not positive or do not sum to 1, if a held-out language is not in the rows or
    leaves no split for its rows, or if a split gets no row because there are too few queries; MachineError if the disk
    is full.
    """
    names = map(group_key, queries_of(rows)) if groups is None else groups
    table = GroupTable(zip(names, strata_of(rows), strict=True), len(rows))
    split_of = table.by_row(assign(table, fractions, held_out_languages, seed))
    del table
    spool = Spool(SCHEMA, len(fractions))
    at = 0
    for batch in batches_of(rows):
        spool.scatter(batch, split_of[at : at + batch.num_rows])
        at += batch.num_rows
    return {name: in_order(spool, number) for number, name in enumerate(fractions)}


def draw(rows: Sequence[LabeledPair], most: int | None, seed: int) -> Sequence[LabeledPair]:
    """Return a random sample of at most `most` rows (None: all), in their order; on disk where `rows` are."""
    if most is None or most >= len(rows):
        return rows
    drawn = np.zeros(len(rows), dtype=bool)
    drawn[random.Random(seed).sample(range(len(rows)), most)] = True
    return filtered(rows, drawn)


def leaks(a: Sequence[LabeledPair], b: Sequence[LabeledPair]) -> list[str]:
    """Return the queries of `a` that are also in `b`, regardless of case, white space and invisible characters.

    Each query is returned once, as `a` writes it first.
    """
    places = matched(map(group_key, queries_of(a)), len(a), map(group_key, queries_of(b)))
    found: dict[str, str] = {}
    for query in compress(queries_of(a), places >= 0):
        found.setdefault(group_key(query), query)
    return list(found.values())


def summarize(splits: Mapping[str, Sequence[LabeledPair]]) -> list[SplitSummary]:
    """Return one summary for each split, in order. The share of positives of an empty split is NaN."""
    return [_summary(name, rows) for name, rows in splits.items()]


def _summary(name: str, rows: Sequence[LabeledPair]) -> SplitSummary:
    strata = Counter(strata_of(rows))
    languages: Counter[str] = Counter()
    for (language, _), count in strata.items():
        languages[language] += count
    return SplitSummary(
        name=name,
        rows=len(rows),
        queries=distinct(map(group_key, queries_of(rows)), len(rows)),
        positive_share=sum(count for (_, label), count in strata.items() if label) / len(rows) if rows else math.nan,
        languages=dict(sorted(languages.items())),
    )


def write_pairs(path: Path | str, rows: Iterable[LabeledPair], task: Task) -> None:
    """Write rows atomically, in the format of the file's name. `read_pairs` reads the same rows back.

    JSON lines are in the AnalytiCup's format. Ids that are integers are written as numbers. InputError if an extra has
    the name of a field.
    """
    write_file(Path(path), _Records(rows if isinstance(rows, Sequence) else list(rows), task))


class _Records:
    """The records of rows, made anew each time that they are gone through."""

    def __init__(self, rows: Sequence[LabeledPair], task: Task) -> None:
        self._rows, self._task = rows, task

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (_record(row, self._task) for row in self._rows)


def _record(row: LabeledPair, task: Task) -> dict[str, Any]:
    record = {
        "id": json_id(row.id),
        "task": task.upper(),
        "language": row.pair.language,
        QUERY_FIELD: row.pair.query,
        task.candidate_field: row.pair.candidate,
        "label": row.label,
    }
    for name in row.extra:
        if name in record:
            raise InputError(f"row {row.id!r}: extra {name!r} has the name of a field; expected another name")
    return record | row.extra
