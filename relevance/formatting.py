"""How a pair becomes the two texts that a model reads. Training and serving share this file, so they cannot drift.

Any change to what `PairFormat` returns for the same input is a new FORMAT_VERSION: bundles of another version are
refused by the service.
"""

import functools
import re

from pydantic import BaseModel, ConfigDict, Field

from relevance.tasks import UNKNOWN_LANGUAGE, Pair, Task

FORMAT_VERSION = 1

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


class PairFormat(BaseModel):
    """The formatting parameters of a model; saved with it, applied by `query_text` and `candidate_text`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query_prefix: str = Field("", description="put before every query, e.g. 'query: '")
    candidate_prefix: str = Field("", description="put before every candidate, e.g. 'category: '")
    language_tag: bool = Field(False, description="put the language code before the query, as in '[ja] 靴'")
    level_separator: str = Field(" > ", description="stands between the levels of a category path")
    names_with_comma: tuple[str, ...] = Field(
        NAMES_WITH_COMMA, description="level names that hold a comma with no space behind it"
    )

    def query_text(self, query: str, language: str = UNKNOWN_LANGUAGE) -> str:
        """Return the first text of a pair: prefix, optional language tag, query with white space folded."""
        tag = f"[{language}] " if self.language_tag else ""
        return f"{self.query_prefix}{tag}{_fold(query)}"

    def candidate_text(self, task: Task, candidate: str) -> str:
        """Return the second text of a pair: a title, or the levels of a category path joined by the separator."""
        text = self.level_separator.join(self.levels(candidate)) if task is Task.QC else _fold(candidate)
        return f"{self.candidate_prefix}{text}"

    def texts(self, task: Task, pair: Pair) -> tuple[str, str]:
        """Return both texts of a pair."""
        return self.query_text(pair.query, pair.language), self.candidate_text(task, pair.candidate)

    def levels(self, category_path: str) -> list[str]:
        """Split a category path into its level names, top first: see `split_levels`."""
        return split_levels(category_path, self.names_with_comma)


def split_levels(category_path: str, names_with_comma: tuple[str, ...] = NAMES_WITH_COMMA) -> list[str]:
    """Split a category path at every comma that no space follows, top level first; empty levels are left out.

    A comma with a space behind it belongs to a name (`automobiles, parts & accessories,car electronics` has two
    levels). The names in `names_with_comma` stay whole where they fill whole levels, whatever their case.
    """
    path = _fold(category_path)
    found = names_with_comma if _pattern(names_with_comma).search(path) else ()  # most paths hold none: be quick
    for start, end in reversed([m.span() for name in found for m in _pattern((name,)).finditer(path)]):
        path = path[:start] + path[start:end].replace(",", "\0") + path[end:]
    return [level.replace("\0", ",").strip() for level in re.split(r",(?! )", path) if level.strip()]


@functools.cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Match any of the names where it fills whole levels."""
    either = "|".join(map(re.escape, names)) or "(?!)"
    return re.compile(rf"(?:(?<=,)|^)(?:{either})(?=,(?! )|$)", re.IGNORECASE)


def _fold(text: str) -> str:
    """Trim, and turn every run of white space (NBSP and line breaks included) into one space."""
    return " ".join(text.split())
