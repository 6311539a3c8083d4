"""The candidates that can become negatives, and which of them are too near a positive whatever their similarity."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from relevance.errors import InputError
from relevance.formatting import find_separator, path_levels
from relevance.tasks import LabeledPair, Task, query_key


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
    """The different candidates of some rows, and `extra` ones of no row, by number, in the order in which they come.

    Category paths are one where their levels are the same, titles where their words are, whatever case, white space
    and compatibility forms. The first spelling stands for all. What parts the levels is found (relevance.formatting).
    """

    def __init__(self, rows: Sequence[LabeledPair], task: Task, near_title: float, extra: Sequence[str] = ()) -> None:
        self.texts: list[str] = []
        self._task, self._near_title = task, near_title
        self._separator = find_separator([*(row.pair.candidate for row in rows), *extra]) if task is Task.QC else ""
        self._number_of: dict[str, int] = {}  # spelling -> number
        # Made again when they are asked for: kept, the keys of a million titles would take as much room as all else.
        self._keys = functools.lru_cache(maxsize=1 << 16)(lambda number: self._key(self.texts[number]))
        numbers: dict[tuple[str, ...], int] = {}
        self._take((row.pair.candidate for row in rows), numbers)
        self.of_rows = len(self.texts)  # the first so many are those of rows
        self._take(extra, numbers)

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, candidate: str) -> int:
        """Return the number of a candidate, in any of the spellings that were given."""
        return self._number_of[candidate]

    def kinship(self, candidate: int, positive: int) -> str | None:
        """Return why a candidate can't be a negative beside a positive, or None where it can.

        The reasons: `known_positive`; for QC `ancestor`, `descendant` or `same_leaf`; for QI `near_title`.
        """
        if candidate == positive:
            return "known_positive"
        first, second = self._keys(candidate), self._keys(positive)
        if self._task is Task.QI:
            return "near_title" if _likeness(first[0], second[0]) >= self._near_title else None
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
        if self._task is Task.QI:
            return (query_key(candidate),)
        return tuple(query_key(level) for level in path_levels(candidate, self._separator))


def _likeness(a: str, b: str) -> float:
    """Return the F1 of the character bigrams of two texts, in [0, 1]: as good for scripts without spaces."""
    first, second = _grams(a), _grams(b)
    shared = len(first & second)
    return 2 * shared / (len(first) + len(second)) if first or second else 1.0


@functools.lru_cache(maxsize=1 << 15)
def _grams(text: str) -> frozenset[str]:
    text = f" {text} "
    return frozenset(map(str.__add__, text, text[1:]))
