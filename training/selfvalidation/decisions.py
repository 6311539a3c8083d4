"""Reads a person's decisions on a review list (keep, drop or flip) and applies them."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from relevance.errors import InputError
from relevance.tasks import LabeledPair
from training.data.rows import SHOWN_ROWS, listed, shown
from training.selfvalidation.actions import ORIGINAL_LABEL, flipped
from training.selfvalidation.judging import Suggestion

NEEDED = ("id", "label", "decision")
UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on the row with this id and label; None: not decided. `line` is the line of the file."""

    id: str
    label: int
    decision: Suggestion | None
    line: int


class ReviewReport(BaseModel):
    """What a review changed: rows by decision, `undecided` ones among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int
    rows_out: int
    decisions: dict[str, int]

    def text(self) -> str:
        """Return the report in words."""
        found = ", ".join(f"{count:,} {name}" for name, count in self.decisions.items()) or "none"
        return f"{self.rows_in:,} rows in, {self.rows_out:,} out; decisions: {found}"


def read_decisions(path: Path) -> list[Decision]:
    """Read a review CSV as a person or a spreadsheet saved it: separated by comma, semicolon or tab, in any order.

    An empty decision means undecided. Columns other than id, label and decision are ignored. Raises InputError that
    names all bad lines together.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"review {path}: {error.strerror}; expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"review {path}: {error}; expected UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    if missing := [name for name in NEEDED if name not in names]:
        raise InputError(f"review {path}: has no column {listed(missing)} among {listed(names)}")
    reader.fieldnames = names
    decisions: list[Decision] = []
    faults: list[str] = []
    try:
        for record in reader:
            found = _decision(record, reader.line_num)
            if isinstance(found, Decision):
                decisions.append(found)
            else:
                faults.append(found)
    except csv.Error as error:
        raise InputError(f"review {path} line {reader.line_num}: {error}; expected CSV") from None
    _raise(path, faults)
    return decisions


def apply_review(
    rows: Sequence[LabeledPair], decisions: Sequence[Decision], path: Path
) -> tuple[list[LabeledPair], ReviewReport]:
    """Return the rows after a person's decisions, in their order, and the counts; flipped rows get `original_label`.

    Raises InputError, naming every fault, where a decision names no row or several, where the row's label is not the
    one that was decided on (the review is of another file, or was applied already), or where two decisions differ.
    """
    by_id: dict[str, LabeledPair] = {row.id: row for row in rows}
    repeated = {name for name, count in Counter(row.id for row in rows).items() if count > 1}
    chosen: dict[str, Decision] = {}
    faults = []
    for each in decisions:
        fault = _fault(each, by_id.get(each.id), each.id in repeated, chosen.get(each.id))
        if fault:
            faults.append(f"line {each.line}: {fault}")
        chosen[each.id] = each
    _raise(path, faults)
    verdicts = {name: each.decision for name, each in chosen.items()}
    left = [
        flipped(row) if verdicts.get(row.id) is Suggestion.FLIP else row
        for row in rows
        if verdicts.get(row.id) is not Suggestion.DROP
    ]
    counted = Counter(UNDECIDED if verdict is None else verdict.value for verdict in verdicts.values())
    return left, ReviewReport(rows_in=len(rows), rows_out=len(left), decisions=dict(sorted(counted.items())))


def _decision(record: dict[str, str | None], line: int) -> Decision | str:
    name = (record.get("id") or "").strip()
    label = (record.get("label") or "").strip()
    verdict = (record.get("decision") or "").strip().lower()
    if not name:
        return f"line {line}: id is empty; expected the id of a row"
    if label not in ("0", "1"):
        return f"line {line} (id {name!r}): label {shown(label)}; expected 0 or 1"
    if verdict and verdict not in set(Suggestion):
        return f"line {line} (id {name!r}): decision {shown(verdict)}; expected keep, drop, flip or nothing"
    return Decision(name, int(label), Suggestion(verdict) if verdict else None, line)


def _fault(each: Decision, row: LabeledPair | None, is_repeated: bool, before: Decision | None) -> str | None:
    if row is None:
        return f"id {each.id!r} is of no row of the file; expected an id of the file"
    if is_repeated:
        return f"id {each.id!r} is on several rows; expected unique ids"
    if before is not None and before.decision is not each.decision:
        return f"id {each.id!r} is decided twice, and differently (line {before.line}); expected one decision"
    if row.label != each.label:
        again = ", it was flipped already" if row.extra.get(ORIGINAL_LABEL) == each.label else ""
        return f"id {each.id!r} has label {row.label}, the review {each.label}{again}; expected the file reviewed"
    return None


def _raise(path: Path, faults: list[str]) -> None:
    if faults:
        left = len(faults) - SHOWN_ROWS
        more = [f"and {left} more"] if left > 0 else []
        raise InputError("\n".join([f"review {path}: {len(faults)} bad lines", *faults[:SHOWN_ROWS], *more]))
