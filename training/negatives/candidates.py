"""The candidates that can become negatives, and which of them are too near a positive whatever their similarity."""

import functools
from collections.abc import Sequence

from relevance.errors import ConfigError
from relevance.formatting import split_levels
from relevance.tasks import LabeledPair, Task, query_key

# Exact search compares every query with every candidate: 50,000 of 384 dimensions took 0.6 ms a query on one core.
MAX_CANDIDATES = 100_000


class CandidatePool:
    """The different candidates of some rows, by number, in the order of their first row.

    Category paths are one where their levels are the same, titles where their words are, whatever case, white space
    and compatibility forms. The first spelling stands for all.
    """

    def __init__(self, rows: Sequence[LabeledPair], task: Task, near_title: float) -> None:
        """Raise ConfigError for more than MAX_CANDIDATES, which is as many as exact search is meant for."""
        self.texts: list[str] = []
        self._task, self._near_title = task, near_title
        self._keys: list[tuple[str, ...]] = []
        self._number_of: dict[str, int] = {}  # spelling -> number
        numbers: dict[tuple[str, ...], int] = {}
        for row in rows:
            text = row.pair.candidate
            if text in self._number_of:
                continue
            key = self._key(text)
            if key not in numbers:
                numbers[key] = len(self.texts)
                self.texts.append(text)
                self._keys.append(key)
            self._number_of[text] = numbers[key]
        if len(self.texts) > MAX_CANDIDATES:
            raise ConfigError(
                f"negatives: {len(self.texts):,} different candidates; expected at most {MAX_CANDIDATES:,}, the limit "
                "of exact search (an approximate index is not built in)"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, candidate: str) -> int:
        """Return the number of a candidate, as any of the rows writes it."""
        return self._number_of[candidate]

    def kinship(self, candidate: int, positive: int) -> str | None:
        """Return why a candidate can't be a negative beside a positive, or None where it can.

        The reasons: `known_positive`; for QC `ancestor`, `descendant` or `same_leaf`; for QI `near_title`.
        """
        if candidate == positive:
            return "known_positive"
        first, second = self._keys[candidate], self._keys[positive]
        if self._task is Task.QI:
            return "near_title" if _likeness(first[0], second[0]) >= self._near_title else None
        if second[: len(first)] == first:
            return "ancestor"
        if first[: len(second)] == second:
            return "descendant"
        return "same_leaf" if first[-1:] == second[-1:] else None

    def _key(self, candidate: str) -> tuple[str, ...]:
        if self._task is Task.QI:
            return (query_key(candidate),)
        return tuple(query_key(level) for level in split_levels(candidate))


def _likeness(a: str, b: str) -> float:
    """Return the F1 of the character bigrams of two texts, in [0, 1]: as good for scripts without spaces."""
    first, second = _grams(a), _grams(b)
    shared = len(first & second)
    return 2 * shared / (len(first) + len(second)) if first or second else 1.0


@functools.lru_cache(maxsize=4096)
def _grams(text: str) -> frozenset[str]:
    text = f" {text} "
    return frozenset(text[at : at + 2] for at in range(len(text) - 1))
