"""The tasks and their pairs. Knows no files, models or text formatting."""

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relevance.languages import UNKNOWN_LANGUAGE as UNKNOWN_LANGUAGE
from relevance.languages import normalize_language as normalize_language


class Task(StrEnum):
    """The question of a pair. `QC`: does this category fit the query? `QI`: does this item title answer it?

    `RERANK`: is this document relevant to the query, whatever it is? No rule for paths or titles applies.
    """

    QC = "qc"
    QI = "qi"
    RERANK = "rerank"

    @property
    def candidate_field(self) -> str:
        """Name of the candidate's field in files of rows; for QC and QI that of AnalytiCup's files."""
        return _CANDIDATE_FIELDS[self]


_CANDIDATE_FIELDS = {Task.QC: "category_path", Task.QI: "item_title", Task.RERANK: "document"}
ANALYTICUP_TASKS = (Task.QC, Task.QI)  # those of AnalytiCup's data and submissions
SCORE_FIELDS = ("score", "label_predicted", "truncated", "model_version")  # what batch scoring adds to a row


def query_key(query: str) -> str:
    """Return the key of a query. Queries with equal keys are one unit of splits and folds.

    Case, white space and compatibility forms (full width, composed or decomposed accents: NFKC) do not matter.
    """
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and one candidate (QC: a category path, QI: an item title, else a document), as the user wrote them."""

    query: str
    candidate: str
    language: str = UNKNOWN_LANGUAGE


@dataclass(frozen=True, slots=True)
class LabeledPair:
    """A pair with its binary label (1: relevant), its row id and the other fields of the row."""

    pair: Pair
    label: int
    id: str
    extra: dict[str, Any] = field(default_factory=dict)
