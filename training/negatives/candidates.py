"""The candidates for negatives, and the pairs that the rows already label."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from relevance.errors import InputError
from relevance.tasks import Task, query_key
from relevance.text.characters import COMMA_FORMS, normalize
from relevance.text.formatting import find_separator, path_levels
from training.text.likeness import bigram_f1


def read_candidates(path: Path) -> list[str]:
    """Return the candidates of a file, one a line; blank lines are left out.

    InputError where the file cannot be read as UTF-8 or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InputError(f"{path}: cannot be read ({why}); expected a text file of candidates, one a line") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path}: holds no candidate; expected one a line")
    return found


class CandidatePool:
    """The distinct candidates of rows, then `extra` ones, numbered in order of first occurrence. All are in memory.

    Category paths are one where their levels are the same, titles where their words are, whatever case, white space,
    entities, invisible characters and compatibility forms. The first spelling stands for all. The separator of levels
    is detected.
    """

    def __init__(self, texts: Iterable[str], task: Task, near_title: float, extra: Sequence[str] = ()) -> None:
        """Take the candidates of rows in the order of these; one may come several times."""
        self.texts: list[str] = []
        self._task, self._near_title = task, near_title
        distinct = dict.fromkeys(texts)
        self._separator = find_separator(map(_normal, [*distinct, *extra])) if task is Task.QC else ""
        self._number_of: dict[str, int] = {}  # spelling -> number
        # Computed on demand: the keys of a million titles would take as much memory as everything else.
        self._keys = functools.lru_cache(maxsize=1 << 16)(lambda number: self._key(self.texts[number]))
        numbers: dict[tuple[str, ...], int] = {}
        self._take(distinct, numbers)
        self.of_rows = len(self.texts)  # how many, from the first, are candidates of rows
        self._take(extra, numbers)

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, candidate: str) -> int:
        """Return the number of a candidate, in any of the spellings that were given."""
        return self._number_of[candidate]

    def conflict(self, candidate: int, positive: int) -> str | None:
        """Return why a candidate cannot be a negative of a query with this positive, or None if it can.

        The reasons: `known_positive`; for QC `ancestor`, `descendant` or `same_leaf`; else `near_title`.
        """
        if candidate == positive:
            return "known_positive"
        first, second = self._keys(candidate), self._keys(positive)
        if self._task is not Task.QC:
            return "near_title" if bigram_f1(first[0], second[0]) >= self._near_title else None
        if second[: len(first)] == first:
            return "ancestor"
        if first[: len(second)] == second:
            return "descendant"
        return "same_leaf" if first[-1:] == second[-1:] else None

    def _take(self, candidates: Iterable[str], numbers: dict[tuple[str, ...], int]) -> None:
        for text in candidates:
            if text in self._number_of:
                continue
            key = self._key(text)
            if key not in numbers:
                numbers[key] = len(self.texts)
                self.texts.append(text)
            self._number_of[text] = numbers[key]

    def _key(self, candidate: str) -> tuple[str, ...]:
        text = _normal(candidate)
        if self._task is not Task.QC:
            return (query_key(text),)
        return tuple(query_key(level) for level in path_levels(text, self._separator))


def _normal(candidate: str) -> str:
    """Return a candidate as a model reads it: `cups &amp; mugs` is no other one than `cups & mugs`."""
    return normalize(candidate, COMMA_FORMS)[0]


class KnownPairs:
    """The pairs of some rows [N], which are named by their index, and the positives of each row's group.

    `groups` [N] says which rows mean the same: a query with its translations and with queries of the same words. All
    rows of a group are among these.
    """

    def __init__(
        self, queries: Sequence[str], candidates: Sequence[int], labels: Sequence[int], groups: Sequence[int]
    ) -> None:
        """Take the key of each row's query, the number of its candidate, its label and its group: [N] each."""
        self._queries, self._groups = queries, groups
        self._pairs = set(zip(queries, candidates, strict=True))
        self._positives: dict[int, set[int]] = {group: set() for group in groups}
        self._drawn: set[tuple[int, int, int]] = set()
        for group, candidate, label in zip(groups, candidates, labels, strict=True):
            if label == 1:
                self._positives[group].add(candidate)

    def positives(self, row: int) -> set[int]:
        """Return the candidates that are positive for a row's query, its translations or queries of the same words."""
        return self._positives[self._groups[row]]

    def has(self, row: int, candidate: int) -> bool:
        """Return whether the rows pair a row's query with a candidate already, under any label."""
        return (self._queries[row], candidate) in self._pairs

    def add(self, row: int, candidate: int) -> None:
        """Note the pair of a row's query and a candidate."""
        self._pairs.add((self._queries[row], candidate))

    def add_drawn(self, row: int, candidate: int, attempt: int) -> None:
        """Note a pair that an earlier pass drew for a row at an attempt."""
        self.add(row, candidate)
        self._drawn.add((row, candidate, attempt))

    def was_drawn(self, row: int, candidate: int, attempt: int) -> bool:
        """Return whether an earlier pass drew a candidate for a row at the same attempt."""
        return (row, candidate, attempt) in self._drawn
