"""What good rows of a file say of their language, where that is nothing, or no code: counted, to warn of it once."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.data.files.columns import column_option, likely_column
from training.data.rows import shown

log = logging.getLogger(__name__)

_SAY_UNKNOWN = frozenset({"unk", "und", "unknown", "mul", "zxx", "mis", "na", "n/a", "?", "-"})  # meant so
_SHOWN_TAGS = 5


class LanguageTags:
    """Counts the rows of unknown language of one file, by what the file says of it."""

    def __init__(self) -> None:
        self._unknown: Counter[str] = Counter()  # rows by a tag that is no code
        self._untold = 0  # rows without a tag
        self._column: str | None = None  # the column that may hold the tags

    def see_unknown(self, tag: str | None, columns: Iterable[str]) -> None:
        """Count a row of unknown language: its tag, None if the file has none, and the names of its columns."""
        if tag is not None:
            self._unknown[tag.casefold()] += 1
            return
        self._untold += 1
        if self._untold == 1:
            self._column = likely_column("language", list(columns))

    def warn(self, path: Path, rows: int) -> None:
        """Warn of tags that are no code, and where none of `rows` good rows has a tag, of the column that may."""
        if named := {tag: count for tag, count in self._unknown.most_common() if tag not in _SAY_UNKNOWN}:
            some = ", ".join(f"{shown(tag)} x {count}" for tag, count in list(named.items())[:_SHOWN_TAGS])
            log.warning(
                "%s: %d rows have a language that is no known code (%s); they count as rows of unknown language; "
                "expected codes such as 'en' or 'pt-BR'",
                *(path, sum(named.values()), some),
            )
        if self._column is not None and self._untold == rows:
            log.warning(
                "%s: no row has a language, and so each has the threshold of an unknown one; does the column %r hold "
                "them? Then give %s",
                *(path, self._column, column_option(self._column, "language")),
            )
