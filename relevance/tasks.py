"""The two tasks and their pairs. Knows no files, models or text formatting."""

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relevance.languages import UNKNOWN_LANGUAGE as UNKNOWN_LANGUAGE
from relevance.languages import normalize_language as normalize_language


class Task(StrEnum):
    """The question of a pair. `QC`: does this category fit the query? `QI`: does this item title answer it?"""

    QC = "qc"
    QI = "qi"

    @property
    def candidate_field(self) -> str:
        """Name of the candidate's field in AnalytiCup files."""
        return "category_path" if self is Task.QC else "item_title"


def query_key(query: str) -> str:
    """Return the key of a query. Queries with equal keys are one unit of splits and folds.

    Case, white space and compatibility forms (full width, composed or decomposed accents: NFKC) do not matter.
    """
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and one candidate (a category path for QC, an item title for QI), as the user wrote them."""

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
