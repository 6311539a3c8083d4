"""JSON lines files, written whole or not at all."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.files import whole_file


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, in UTF-8, whole or not at all.

    JSON has no NaN and no infinity: they become null. Other values that JSON lacks (dates, decimals) become their text.
    Folders on the way are made. InputError when the file cannot be written.
    """
    try:
        with whole_file(path) as beside, beside.open("wb") as stream:
            stream.writelines(map(_json_line, records))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); expected a file in an open folder") from error


def _json_line(record: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
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
