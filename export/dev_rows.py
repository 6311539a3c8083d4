"""Labelled rows from JSON lines, as `relevance data clean` and `data split` write them. Knows no models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.languages import UNKNOWN_LANGUAGE, normalize_language
from relevance.tasks import Pair, Task

MAX_FAULTS = 5  # shown in a message


@dataclass(frozen=True)
class DevRows:
    """Pairs and their labels [N]."""

    file: Path
    pairs: Sequence[Pair]
    labels: NDArray[np.bool_]

    @property
    def languages(self) -> list[str]:
        """The language of each pair [N]."""
        return [pair.language for pair in self.pairs]

    @classmethod
    def read(cls, file: Path, task: Task) -> "DevRows":
        """Read rows of a task. Raises InputError that names bad lines, or labels of one class only."""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}); expected JSON lines in UTF-8") from None
        lines = enumerate(text.split("\n"), start=1)
        found = [(number, _row(line, task)) for number, line in lines if line.strip()]
        faults = [f"line {number}: {row}" for number, row in found if isinstance(row, str)]
        rows = [row for _, row in found if not isinstance(row, str)]
        if faults:
            shown = "; ".join(faults[:MAX_FAULTS])
            raise InputError(
                f"{file}: {len(faults)} bad rows of {len(found)}; expected JSON lines with origin_query, "
                f"{task.candidate_field} and label 0 or 1, as `relevance data clean` writes them: {shown}"
            )
        if len({label for _, label in rows}) < 2:
            raise InputError(f"{file}: {len(rows)} rows of {task.value}, not both labels among them; expected 0 and 1")
        return cls(file, [pair for pair, _ in rows], np.array([label for _, label in rows], dtype=np.bool_))


def _row(line: str, task: Task) -> tuple[Pair, int] | str:
    """Return a pair and its label, or what is wrong with the line."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return "no JSON"
    fields = content if isinstance(content, dict) else {}
    query, candidate, label = (fields.get(name) for name in ("origin_query", task.candidate_field, "label"))
    language = fields.get("language", UNKNOWN_LANGUAGE)
    if not all(isinstance(text, str) and text.strip() for text in (query, candidate, language)):
        return f"{line:.100}"
    if isinstance(label, bool) or str(label) not in {"0", "1"}:
        return f"label {label!r}"
    return Pair(query, candidate, normalize_language(language)), int(label)
