"""The extras by which rows name one another. Knows their names and forms; nothing of groups or stages.

`source_id` of a made row (a translation, a negative) is the id of the row that it was made of. A row that stands for
several (training.data.votes) keeps the other ids in `merged_ids`, and further sources in `merged_source_ids`.
"""

import ast
import json
import math
from collections.abc import Iterable
from typing import Any

from relevance.tasks import LabeledPair

SOURCE_ID = "source_id"
MERGED_IDS = "merged_ids"
MERGED_SOURCE_IDS = "merged_source_ids"
_MADE = frozenset({"translation", "negative"})


def is_made(row: LabeledPair) -> bool:
    """Say whether a row was made by augmentation: a translation or a sampled negative."""
    return row.extra.get("source") in _MADE


def own_ids(row: LabeledPair) -> list[str]:
    """Return the ids that a row goes by: its own first, then those of the rows that were merged into it."""
    return [row.id, *_listed(row.extra.get(MERGED_IDS))]


def source_ids(row: LabeledPair) -> list[str]:
    """Return the ids of the rows that a row was made of: none for an original row."""
    return [*_listed(row.extra.get(SOURCE_ID)), *_listed(row.extra.get(MERGED_SOURCE_IDS))]


def id_text(value: Any) -> str | None:
    """Return an id as text, None where there is none: a whole number that pandas made a float is that number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text if text.strip() else None


def _listed(value: Any) -> list[str]:
    """Return the ids of a list, also of one that a table file holds as text, in JSON or as Python writes it."""
    if isinstance(value, str) and value.startswith("["):
        value = _parsed(value)
    values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(id_text, values) if text is not None]


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text
