"""JSON lines: one object a line, in UTF-8."""

import json
import math
from collections.abc import Mapping
from typing import Any

_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str)


def json_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON.

    JSON has no NaN and no infinity: they become null. Other values (dates, decimals) become text.
    """
    try:
        text = _STRICT.encode(record)
    except ValueError:
        record = _finite(record)
        text = json.dumps(record, ensure_ascii=False, default=str)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(record, default=str)}\n".encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
