"""Read the logits of a teacher: a file of `id`, and `logit` or `score`, as `relevance score` writes it."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.storage.files import whole_file
from training.data.files.file_types import records_of
from training.data.files.parts import parts_of
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.labels.grades import number_of
from training.data.rows import SHOWN_ROWS, shown
from training.data.values import is_missing, plain_id

_COLUMNS = ("logit", "score")
_LARGEST_LOGIT = 16.0  # of a score: 1 - 1e-7; a score of exactly 0 or 1 has no logit


class _AnyColumns:
    """Stands in for the fields of a file of rows: a teacher's file has columns of its own."""

    reading: ReadOptions = AS_IT_COMES

    def check_header(self, path: str, names: Sequence[str]) -> None:
        """Raise InputError unless the file has ids and logits."""
        if "id" not in names or not set(_COLUMNS) & set(names):
            raise InputError(f"{path}: columns {', '.join(map(repr, names))}; expected 'id', and 'logit' or 'score'")

    def is_label(self, name: str, names: Sequence[str]) -> bool:
        """No column is a label."""
        return False


def teacher_logits(path: Path, ids: Sequence[str], lacking: Path) -> list[float]:
    """Return the teacher's logit [N] of each id. Rows of other ids are ignored.

    InputError names rows of the file that cannot be used, ids with two logits, and ids that the file lacks; all of the
    latter are written to `lacking`, one a line.
    """
    found: dict[str, float] = {}
    faults: list[str] = []
    for part in parts_of(path):
        for number, content, _ in records_of(part, _AnyColumns()):  # type: ignore[arg-type]
            value = content if isinstance(content, dict) else {}
            row_id, logit = plain_id(value.get("id")), _logit(value)
            place = f"{part.name} row {number}"
            if row_id is None or logit is None:
                given = {name: value[name] for name in ("id", *_COLUMNS) if name in value}
                faults.append(f"{place}: {shown(given)}; expected an id, and a finite logit or a score from 0 to 1")
            elif found.setdefault(row_id, logit) != logit:
                faults.append(f"{place}: id {row_id!r} has another logit before, {found[row_id]:g}; expected one an id")
    if faults:
        raise InputError(f"teacher {path}: {len(faults)} bad rows\n" + _first(faults, "\n"))
    if missing := [name for name, _ in Counter(ids).items() if name not in found]:
        with whole_file(lacking) as beside:
            beside.write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
        raise InputError(
            f"teacher {path}: lacks {len(missing)} of {len(ids)} training rows; all their ids are in {lacking}: "
            + _first(missing, ", ")
        )
    return [found[name] for name in ids]


def _logit(record: dict[str, Any]) -> float | None:
    if not is_missing(record.get("logit")):
        return number_of(record["logit"])
    score = number_of(record.get("score"))
    if score is None or not 0 <= score <= 1:
        return None
    if score in (0, 1):
        return math.copysign(_LARGEST_LOGIT, score - 0.5)
    return max(-_LARGEST_LOGIT, min(math.log(score) - math.log1p(-score), _LARGEST_LOGIT))


def _first(lines: Sequence[str], separator: str) -> str:
    more = f"{separator}and {len(lines) - SHOWN_ROWS} more" if len(lines) > SHOWN_ROWS else ""
    return separator.join(lines[:SHOWN_ROWS]) + more
