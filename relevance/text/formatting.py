"""Turns a pair into the two texts that a model reads. Training and serving share it, so they cannot differ.

Any change to the result of `PairFormat` for the same parameters and input needs a new FORMAT_VERSION: bundles and
checkpoints of another version are refused. Card and manifest store the parameters, the promotional phrases included.
Knows no tokens and no files.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import Field

from relevance.storage.strict import StrictModel
from relevance.tasks import UNKNOWN_LANGUAGE, Pair, Task
from relevance.text.characters import COMMA_FORMS, normalize
from relevance.text.titles import PROMOTIONS, without_promotions, without_repeats

FORMAT_VERSION = 3  # 1 did not normalise texts, 2 had no features beside the tokens
OTHER_FORMAT = "another release prepares its inputs in another way: train the model again with this one"

BARE_COMMA = ","  # a comma that no space follows, as AnalytiCup writes paths
# Separators of the levels of a path, by preference: of two equally frequent ones the first wins, since names hold
# commas and slashes, and arrows hold `>`.
SEPARATORS = (
    *("->", "=>", " > ", "＞", "→", "|", "›", "»", "::", "•", " · ", " / "),
    *(BARE_COMMA, ", ", "/", "\\"),
)
_COMMA = re.compile(r",(?! )")
_TIGHT = frozenset(
    {"->", "=>", ">", "＞", "→", "|", "›", "»", "::", "•"}
)  # never within a name: white space around them does not matter

# Level names of the AnalytiCup category tree that hold a comma with no space behind it.
NAMES_WITH_COMMA = (
    "arts,crafts & sewing",
    "bottles,jars & boxes",
    "car mp4,mp5",
    "fireplaces,stoves",
    "kitchen,dining & bar",
    "sports shoes,clothing&accessories",
    "switch,sockets and accessories",
    "vr,ar devices& accessories",
)


class PairFormat(StrictModel):
    """The formatting parameters of a model. Saved with it; `query_text` and `candidate_text` apply them."""

    query_prefix: str = Field("", description="put before every query, e.g. 'query: '")
    candidate_prefix: str = Field("", description="put before every candidate, e.g. 'category: '")
    language_tag: bool = Field(False, description="put the language code before the query, as in '[ja] 靴'")
    level_separator: str = Field(" > ", description="stands between the levels of a category path")
    path_separator: str | None = Field(
        None, description="separates the levels of category paths in the input; absent: found in the training rows"
    )
    names_with_comma: tuple[str, ...] = Field(
        NAMES_WITH_COMMA, description="level names that hold a comma with no space behind it"
    )
    normalize_text: bool = Field(True, description="entities, controls, invisible characters, NFKC")
    promotions: tuple[str, ...] = Field(
        PROMOTIONS, description="words, without signs, left out of titles where they stand alone (QI)"
    )
    fold_repeats: bool = Field(True, description="write stuttered words of titles once (QI)")
    as_is: bool = Field(
        False, description="texts go in exactly as they are, behind their prefixes: for models trained elsewhere"
    )

    def query_text(self, query: str, language: str = UNKNOWN_LANGUAGE) -> str:
        """Return the first text of a pair: prefix, optional language tag, normalised query."""
        tag = f"[{language}] " if self.language_tag else ""
        return f"{self.query_prefix}{tag}{self._normal(query)}"

    def candidate_text(self, task: Task, candidate: str) -> str:
        """Return the second text of a pair.

        A title, a document, or the levels of a category path joined by `level_separator`.
        """
        if task is Task.QC and not self.as_is:
            return self.path_text(self.levels(candidate))
        text = self._title(candidate) if task is Task.QI else self._normal(candidate)
        return f"{self.candidate_prefix}{text}"

    def path_text(self, levels: Sequence[str]) -> str:
        """Return the second text of a pair for the levels of a category path."""
        return f"{self.candidate_prefix}{self.level_separator.join(levels)}"

    def texts(self, task: Task, pair: Pair) -> tuple[str, str]:
        """Return both texts of a pair."""
        return self.query_text(pair.query, pair.language), self.candidate_text(task, pair.candidate)

    def levels(self, category_path: str) -> list[str]:
        """Split a category path into its normalised level names, top first: see `path_levels`.

        Normalisation neither adds nor joins levels: a comma that was an entity stays within its level.
        """
        separator = self.path_separator or BARE_COMMA
        levels = path_levels(category_path, separator, self.names_with_comma)
        whole = normalize(category_path, COMMA_FORMS)[0] if self.normalize_text else category_path
        if whole == category_path:
            return levels
        again = path_levels(whole, separator, self.names_with_comma)
        return again if len(again) == len(levels) else [self._normal(level) for level in levels]

    def fitted(self, task: Task, candidates: Iterable[str]) -> Self:
        """Return the format with the separator found in these candidates, if it has none (QC)."""
        if task is not Task.QC or self.path_separator is not None:
            return self
        return self.model_copy(update={"path_separator": find_separator(candidates)})

    def _title(self, title: str) -> str:
        if self.as_is:
            return title
        text = without_promotions(self._normal(title), self._phrases)
        return without_repeats(text) if self.fold_repeats else text

    def _normal(self, text: str) -> str:
        if self.as_is:
            return text
        return normalize(text)[0] if self.normalize_text else _fold(text)

    @functools.cached_property
    def _phrases(self) -> frozenset[str]:
        return frozenset(" ".join(normalize(phrase)[0].casefold().split()) for phrase in self.promotions)


def find_separator(paths: Iterable[str]) -> str:
    """Return the separator of category paths: one of SEPARATORS, or a bare comma if none occurs.

    It is the first that occurs in at least half as many distinct paths as the most frequent one.
    """
    distinct = set(paths)
    counts = {each: sum(len(path_levels(path, each, ())) > 1 for path in distinct) for each in SEPARATORS}
    most = max(counts.values(), default=0)
    return next(each for each, count in counts.items() if 2 * count >= most) if most else BARE_COMMA


def path_levels(path: str, separator: str, names_with_comma: tuple[str, ...] = NAMES_WITH_COMMA) -> list[str]:
    """Split a category path at a separator, top level first. White space is folded, and empty levels are dropped.

    A bare comma has no space after it: see `split_levels`. White space around `>` and `|` does not matter. In ` / ` and
    `, ` it belongs to the separator, so that `A/C parts` and `4,5 mm` stay whole.
    """
    if separator == BARE_COMMA:
        return split_levels(path, names_with_comma)
    sign = separator.strip()
    parts = _fold(path).split(sign if sign in _TIGHT else separator)
    return [level.strip() for level in parts if level.strip()]


def split_levels(category_path: str, names_with_comma: tuple[str, ...] = NAMES_WITH_COMMA) -> list[str]:
    """Split a category path at every comma without a space after it, top level first. Empty levels are dropped.

    A comma with a space after it belongs to a name (`automobiles, parts & accessories,car electronics` has two levels).
    The names in `names_with_comma` stay whole if they fill whole levels, in any case.
    """
    path = _fold(category_path)
    found = names_with_comma if _pattern(names_with_comma).search(path) else ()  # a fast path: most paths have none
    for start, end in reversed([m.span() for name in found for m in _pattern((name,)).finditer(path)]):
        path = path[:start] + path[start:end].replace(",", "\0") + path[end:]
    return [level.replace("\0", ",").strip() for level in _COMMA.split(path) if level.strip()]


@functools.cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of the names where they fill whole levels."""
    either = "|".join(map(re.escape, names)) or "(?!)"
    return re.compile(rf"(?:(?<=,)|^)(?:{either})(?=,(?! )|$)", re.IGNORECASE)


def _fold(text: str) -> str:
    """Trim, and replace each run of white space (NBSP and line breaks included) by one space."""
    return " ".join(text.split())
