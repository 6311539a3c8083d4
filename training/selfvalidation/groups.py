"""Flagged rows as a person goes through them: by category and language, worst first."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from relevance.formatting import find_separator, path_levels
from relevance.tasks import LabeledPair, Task
from training.selfvalidation.stage import FlaggedRow

ALL_ITEMS = "all items"


@dataclass(frozen=True, slots=True)
class Group:
    """Flagged rows of one category (QC: its top level) and language, worst first."""

    category: str
    language: str
    rows: tuple[FlaggedRow, ...]

    @property
    def name(self) -> str:
        """What the group is called on the page."""
        return f"{self.category}, {self.language}"


def grouped(flagged: Sequence[FlaggedRow], task: Task) -> list[Group]:
    """Return the rows by category and language, the group with the most rows first, the worst row of each first."""
    separator = find_separator(each.row.pair.candidate for each in flagged)
    found: defaultdict[tuple[str, str], list[FlaggedRow]] = defaultdict(list)
    for each in sorted(flagged, key=lambda each: -each.doubt):
        found[_category(each.row, task, separator), each.row.pair.language].append(each)
    order = sorted(found, key=lambda name: (-len(found[name]), name))
    return [Group(*name, tuple(found[name])) for name in order]


def _category(row: LabeledPair, task: Task, separator: str) -> str:
    levels = path_levels(row.pair.candidate, separator) if task is Task.QC else []
    return levels[0] if levels else ALL_ITEMS
