"""Reads people's decisions on a review list (keep, drop or flip), compares and applies them."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
DISPUTED = "disputed"  # annotators differ: the row stays as it is


@dataclass(frozen=True, slots=True)
class Decision:
    """An annotator's decision on the row with this id and label; None: not decided. `place` names file and line."""

    id: str
    label: int
    decision: Suggestion | None
    annotator: str
    place: str


class ReviewReport(BaseModel):
    """What a review changed: rows by decision, `undecided` and `disputed` ones among them.

    Where two annotators decided, `both` counts the rows that both decided, and `kappa` is their agreement beyond
    chance (Cohen 1960), None where it is undefined: no such row, or all decisions alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int
    rows_out: int
    decisions: dict[str, int]
    both: int | None = None
    kappa: float | None = None

    def text(self) -> str:
        """Return the report in words."""
        found = ", ".join(f"{count:,} {name}" for name, count in self.decisions.items()) or "none"
        agreement = ""
        if self.both is not None:
            kappa = "undefined" if self.kappa is None else f"{self.kappa:.2f}"
            agreement = f"; two annotators on {self.both:,} rows, kappa {kappa}"
        return f"{self.rows_in:,} rows in, {self.rows_out:,} out; decisions: {found}{agreement}"


def read_decisions(path: Path) -> list[Decision | str]:
    """Read a review CSV as a person or a spreadsheet saved it: separated by comma, semicolon or tab, in any order.

    An empty decision means undecided. Without a column `annotator` the file is one annotator's, of its name. Other
    columns are ignored. A bad line gives a text in place of its decision: `apply_review` raises it with the faults that
    it finds itself. Raises InputError for a file that is no such CSV.
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
    try:
        return [_decision(record, path, reader.line_num) for record in reader]
    except csv.Error as error:
        raise InputError(f"review {path} line {reader.line_num}: {error}; expected CSV") from None


def apply_review(
    rows: Sequence[LabeledPair], decisions: Sequence[Decision | str], path: Path
) -> tuple[list[LabeledPair], ReviewReport]:
    """Return the rows after people's decisions, in their order, and the counts; flipped rows get `original_label`.

    A row on which annotators differ stays as it is. Raises InputError, naming every fault, where a line was bad, where
    a decision names no row or several, where the row's label is not the one that was decided on (the review is of
    another file, or was applied already), or where two decisions of one annotator differ.
    """
    by_id: dict[str, LabeledPair] = {row.id: row for row in rows}
    repeated = {name for name, count in Counter(row.id for row in rows).items() if count > 1}
    chosen: dict[str, dict[str, Decision]] = {}
    faults = []
    for each in decisions:
        if isinstance(each, str):
            faults.append(each)
            continue
        own = chosen.setdefault(each.id, {})
        if fault := _fault(each, by_id.get(each.id), each.id in repeated, own.get(each.annotator)):
            faults.append(f"{each.place}: {fault}")
        if each.decision is not None or each.annotator not in own:
            own[each.annotator] = each
    _raise(path, faults)
    verdicts = {name: _verdict(made.values()) for name, made in chosen.items()}
    left = [
        flipped(row) if verdicts.get(row.id) == Suggestion.FLIP else row
        for row in rows
        if verdicts.get(row.id) != Suggestion.DROP
    ]
    counted = dict(sorted(Counter(verdicts.values()).items()))
    both, kappa = _agreement(chosen)
    return left, ReviewReport(rows_in=len(rows), rows_out=len(left), decisions=counted, both=both, kappa=kappa)


def _verdict(made: Iterable[Decision]) -> str:
    """Return what annotators decided on a row: a suggestion, UNDECIDED or DISPUTED."""
    found = {each.decision.value for each in made if each.decision is not None}
    return DISPUTED if len(found) > 1 else found.pop() if found else UNDECIDED


def _agreement(chosen: Mapping[str, Mapping[str, Decision]]) -> tuple[int | None, float | None]:
    """Return how many rows two annotators both decided, and Cohen's kappa; None for another number of annotators."""
    names = sorted({each.annotator for made in chosen.values() for each in made.values() if each.decision})
    if len(names) != 2:
        return None, None
    first, second = names
    pairs = [(made[first].decision, made[second].decision) for made in chosen.values() if made.keys() >= set(names)]
    decided = [pair for pair in pairs if None not in pair]
    if not decided:
        return 0, None
    share = sum(a is b for a, b in decided) / len(decided)
    counts = [Counter(pair[side] for pair in decided) for side in (0, 1)]
    chance = sum(counts[0][each] * counts[1][each] for each in Suggestion) / len(decided) ** 2
    return len(decided), None if chance == 1 else (share - chance) / (1 - chance)


def _decision(record: dict[str, str | None], path: Path, line: int) -> Decision | str:
    name = (record.get("id") or "").strip()
    label = (record.get("label") or "").strip()
    verdict = (record.get("decision") or "").strip().lower()
    place = f"{path.name} line {line}"
    if not name:
        return f"{place}: id is empty; expected the id of a row"
    if label not in ("0", "1"):
        return f"{place}: id {name!r} has label {shown(label)}; expected 0 or 1"
    if verdict and verdict not in set(Suggestion):
        return f"{place}: id {name!r} has decision {shown(verdict)}; expected keep, drop, flip or nothing"
    annotator = (record.get("annotator") or "").strip() or str(path)
    return Decision(name, int(label), Suggestion(verdict) if verdict else None, annotator, place)


def _fault(each: Decision, row: LabeledPair | None, is_repeated: bool, before: Decision | None) -> str | None:
    if row is None:
        return f"id {each.id!r} is of no row of the file; expected an id of the file"
    if is_repeated:
        return f"id {each.id!r} is on several rows; expected unique ids"
    if before is not None and before.decision is not each.decision and None not in (before.decision, each.decision):
        twice = f"id {each.id!r} is decided twice by one annotator, and differently ({before.place})"
        return f"{twice}; expected one decision, and two people to have two names on the page"
    if row.label != each.label:
        again = ", it was flipped already" if row.extra.get(ORIGINAL_LABEL) == each.label else ""
        return f"id {each.id!r} has label {row.label}, the review {each.label}{again}; expected the file reviewed"
    return None


def _raise(path: Path, faults: list[str]) -> None:
    if faults:
        left = len(faults) - SHOWN_ROWS
        more = [f"and {left} more"] if left > 0 else []
        raise InputError("\n".join([f"review {path}: {len(faults)} bad lines", *faults[:SHOWN_ROWS], *more]))
