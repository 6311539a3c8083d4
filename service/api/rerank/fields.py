"""Types of the fields that the shapes of other rerankers share. Knows no routes."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict

TRUTHS = {"true": True, "false": False}
DIGITS = 18  # more than any count has


def _flag(value: Any) -> Any:
    """Read a flag that is written as a text, as templates of OpenSearch's connectors do."""
    return TRUTHS.get(value.lower(), value) if isinstance(value, str) else value


def _count(value: Any) -> Any:
    """Read a count that is written as a text, or as a number with a fraction of zero."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _direction(value: str) -> str:
    if value.lower() != "right":
        raise ValueError(f"{value[:20]!r}, expected 'Right': texts are cut at their end, as in training")
    return value


Flag = Annotated[bool | None, Field(strict=True), BeforeValidator(_flag)]
Count = Annotated[int | None, Field(strict=True, ge=1), BeforeValidator(_count)]
Direction = Annotated[str, AfterValidator(_direction)] | None
Text = str | None  # null is a blank text

INTERLEAVE = "true: a ranking of the active model and the challenger in turns, for the feedback log (docs/models.md)"
PARTIAL = "true: rank what can be scored by the deadline, the first texts, and leave the others out; else 504"
MODEL = "task (`qc`, `qi`, `rerank`), name or version of a served model; may be left out where only one is served"
RERANK_EXAMPLE: JsonDict = {
    "model": "qi",
    "query": "wireless earphones",
    "documents": ["Bluetooth earphones", "Red cup"],
    "top_n": 1,
}
