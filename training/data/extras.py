"""Extras that refer to other rows. Knows their names and formats; knows nothing of groups or stages.

`source_id` of an augmented row (a translation, a negative) is the id of the row that it was made from. A row that
replaces several rows (training.data.votes) has their ids in `merged_ids` and their sources in `merged_source_ids`.
"""

import ast
import json
from collections.abc import Iterable
from typing import Any

from relevance.tasks import LabeledPair
from training.data.values import plain_id

SOURCE_ID = "source_id"
MERGED_IDS = "merged_ids"
MERGED_SOURCE_IDS = "merged_source_ids"
MADE = ("translation", "negative", "transfer")  # a row's `source` where it was made


def is_made(row: LabeledPair) -> bool:
    """Return whether a row was made: a translation, a sampled negative, or a row that a model taught."""
    return row.extra.get("source") in MADE


def is_negative(row: LabeledPair) -> bool:
    """Return whether a row is a sampled negative."""
    return row.extra.get("source") == "negative"


def own_ids(row: LabeledPair) -> list[str]:
    """Return the ids of a row: its own first, then those of the rows that were merged into it."""
    return [row.id, *_listed(row.extra.get(MERGED_IDS))]


def source_ids(row: LabeledPair) -> list[str]:
    """Return the ids of the rows that a row was made from: none for an original row."""
    return [*_listed(row.extra.get(SOURCE_ID)), *_listed(row.extra.get(MERGED_SOURCE_IDS))]


def _listed(value: Any) -> list[str]:
    """Return the ids of a list. A table file may hold the list as text, in JSON or as Python prints it."""
    if isinstance(value, str) and value.startswith("["):
        value = _parsed(value)
    values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(plain_id, values) if text is not None]


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text
