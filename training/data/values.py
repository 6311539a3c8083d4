"""Values that other programs write: missing values, and ids that became numbers."""

import decimal
import math
from typing import Any

# How pandas, Python and MySQL write a missing value.
MISSING_WORDS = frozenset({"None", "nan", "NaN", "NULL", "null", "\\N", "<NA>"})


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: null, blank text, NaN (from pandas), or a word for it (`None`, `\\N`)."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in MISSING_WORDS
    return value is None or (isinstance(value, float | decimal.Decimal) and math.isnan(value))


def plain_id(value: Any) -> str | None:
    """Return an id as text, without white space around it; `5.0`, which pandas makes of 5, is `5`. None if missing."""
    if type(value) is int:
        return str(value)
    if is_missing(value):
        return None
    if isinstance(value, float | decimal.Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    text = str(value).strip()
    whole, point, zeros = text.partition(".")
    return whole if point and whole.isdigit() and zeros and not zeros.strip("0") else text
