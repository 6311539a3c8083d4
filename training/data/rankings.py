"""Which rows are ranked together, and what each of them gains in nDCG."""

from collections.abc import Sequence

import numpy as np

from relevance.evaluation.ranking import Lists
from relevance.tasks import LabeledPair, query_key
from training.data.labels.grades import GRADE, number_of
from training.data.labels.weights import LABEL_SHARE, label_shares


def lists_of(rows: Sequence[LabeledPair]) -> Lists:
    """Return the lists of rows [N]: the candidates of one query in one language are one list.

    A row gains its `label_share` where any row has one; else its grade less the lowest grade of the file, where every
    row has a number for a grade and higher grades go with label 1; else its label. InputError for a share out of range.
    """
    queries = [f"{row.pair.language} {query_key(row.pair.query)}" for row in rows]
    if any(LABEL_SHARE in row.extra for row in rows):
        return Lists(queries, label_shares(rows), "label_share")
    grades = [number_of(row.extra.get(GRADE)) for row in rows]
    known = np.array([np.nan if grade is None else grade for grade in grades])
    labels = np.array([row.label for row in rows])
    if rows and not np.isnan(known).any() and _rises(known, labels):
        return Lists(queries, (known - known.min()).tolist(), "grade")
    return Lists(queries)


def _rises(grades: np.ndarray, labels: np.ndarray) -> bool:
    """Return whether grades [N] are higher where labels [N] are 1."""
    return 0 < labels.sum() < len(labels) and bool(grades[labels == 1].mean() > grades[labels == 0].mean())
