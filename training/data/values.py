"""Values that other programs write: missing values, and ids that became numbers."""

import decimal
import math
import re
from typing import Any

_EXACT_IN_FLOAT = 2**53
_EXACT_ID_DIGITS = 15  # of a number: other JSON readers round longer ones
_LARGE_FLOAT = re.compile(r"-?\d(\.\d+)?e\+\d+", re.IGNORECASE)  # as Python, pandas and spreadsheets write it
# How pandas, Python and MySQL write a missing value.
MISSING_WORDS = frozenset({"None", "nan", "NaN", "NULL", "null", "\\N", "<NA>"})


class HexDigits(str):
    """The hexadecimal digits of binary data that is no text: fit for an id, not for a query."""


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: null, blank text, NaN (from pandas), or a word for it (`None`, `\\N`)."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in MISSING_WORDS
    return value is None or (isinstance(value, float | decimal.Decimal) and math.isnan(value))


def is_rounded(value: Any) -> bool:
    """Return whether an id was a number of too many digits for a float, which has lost the last ones."""
    if isinstance(value, str):
        return _LARGE_FLOAT.fullmatch(value.strip()) is not None
    return isinstance(value, float) and abs(value) >= _EXACT_IN_FLOAT


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


def json_id(row_id: str) -> int | str:
    """Return a row id as a JSON value: a number if it is a plain whole number of at most 15 digits, else text."""
    is_number = row_id.isascii() and row_id.isdigit() and len(row_id) <= _EXACT_ID_DIGITS
    return int(row_id) if is_number and str(int(row_id)) == row_id else row_id
