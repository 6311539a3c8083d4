"""What sampling and losses within a query need to know of training rows; nothing where the recipe does not ask."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.errors import InputError
from relevance.tasks import LabeledPair, query_key
from training.data.groups import source_groups
from training.data.labels.weights import share_column
from training.data.stored.joins import numbered
from training.data.stored.rows import batches_of, ids_of
from training.data.teacher import teacher_logits
from training.fitting.recipe import TrainingSection

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class QueryCounts:
    """Queries of the training rows, and those whose rows all have one target: these have no order to learn."""

    queries: int
    one_class_queries: int
    one_class_rows: int


@dataclass(frozen=True, eq=False)
class RowFacts:
    """Facts on the training rows, each [N] or empty.

    `factors` multiply the weights, `teacher` is in logits. Rows of one query and language have one number in `queries`.
    """

    queries: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    factors: Floats = field(default_factory=lambda: np.zeros(0))
    teacher: Floats = field(default_factory=lambda: np.zeros(0))
    counts: QueryCounts | None = None


NO_FACTS = RowFacts()


def facts_of(rows: Sequence[LabeledPair], section: TrainingSection, lacking: Path) -> RowFacts:
    """Return the facts that the section needs; the ids of rows that the teacher lacks are written to `lacking`.

    InputError where the teacher lacks a row, or where ranking is asked for and no query has rows of two targets.
    """
    found = NO_FACTS
    if section.within_queries:
        found = replace(found, queries=numbered(_query_keys(rows))[0])
    if section.lambdarank_weight:
        counts = query_counts(share_column(rows), found.queries)
        log.info("ranking: %s", ", ".join(f"{name} {count}" for name, count in asdict(counts).items()))
        if counts.one_class_queries == counts.queries:
            raise InputError(
                f"training.lambdarank_weight {section.lambdarank_weight:g}: all {counts.queries} queries of the "
                f"{len(rows)} training rows have rows of one target only; expected queries with better and worse "
                "candidates"
            )
        found = replace(found, counts=counts)
    if section.copies_as_one:
        found = replace(found, factors=copy_factors(source_groups(rows)))
    if section.teacher is not None:
        found = replace(found, teacher=np.array(teacher_logits(section.teacher, list(ids_of(rows)), lacking)))
    return found


def copy_factors(groups: ArrayLike) -> Floats:
    """Return factors [N] of weights by which each group [N] of rows weighs as much as one row; their mean is 1."""
    _, of, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return (len(of) / len(sizes)) / sizes[of]


def _query_keys(rows: Sequence[LabeledPair]) -> Iterator[str]:
    """Yield a key of the query and the language of each row."""
    for batch in batches_of(rows):
        columns = (batch.column(name).to_pylist() for name in ("language", "query"))
        yield from (f"{language} {query_key(query)}" for language, query in zip(*columns, strict=True))


def query_counts(targets: ArrayLike, queries: ArrayLike) -> QueryCounts:
    """Count the queries [N] whose rows all have the same target [N]."""
    of, values = np.asarray(queries), np.asarray(targets, dtype=np.float64)
    least, most = np.full(of.max() + 1, np.inf), np.full(of.max() + 1, -np.inf)
    np.minimum.at(least, of, values)
    np.maximum.at(most, of, values)
    alike = least == most
    return QueryCounts(len(alike), int(alike.sum()), int(alike[of].sum()))
