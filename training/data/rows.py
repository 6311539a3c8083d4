"""Results of reading a data file: good rows, bad rows with all their problems, and the report on both."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from relevance.errors import InputError
from relevance.tasks import Pair
from training.data.labels.grades import is_grade, option_for

WHOLE_ROW = "(row)"  # the field of a problem of the whole row
MISSING = "missing field"
UNKNOWN_LABEL = "unknown label"
UNKNOWN_GRADE = "unknown grade"  # with --grades
LABEL_EXTRAS = frozenset({"label_weight", "label_share", "label_votes", "label_cut"})  # an empty cell is read as absent
SHOWN_ROWS = 20
SHOWN_CHARACTERS = 80
SHOWN_GRADES = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a row: its kind (for counting), the field, the value found and the expected value."""

    kind: str
    field: str
    value: Any
    expected: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: its place, all its problems, and its text in the file."""

    file: str
    row: int
    problems: tuple[Problem, ...]
    raw: str

    def lines(self) -> list[str]:
        """Return one printable line for each problem."""
        found = [p.field if p.kind == MISSING else f"{p.field} = {shown(p.value)}" for p in self.problems]
        return [
            f"{self.file} row {self.row}: {problem.kind}, {field}; expected {problem.expected}"
            for problem, field in zip(self.problems, found, strict=True)
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return one JSON-ready record for each problem, as `bad_rows_file` has them."""
        return [
            {"file": self.file, "row": self.row, "kind": p.kind, "field": p.field, "value": p.value}
            | {"expected": p.expected, "raw": self.raw}
            for p in self.problems
        ]


@dataclass(frozen=True, slots=True)
class Row:
    """A good row: its pair, its label (None when the file has none), its id, its extras and its row number."""

    pair: Pair
    label: int | None
    id: str
    number: int
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading a file found: `total` counts good and bad rows. Repeated ids (by `read_rows`) are no error."""

    file: str
    total: int
    bad_rows: tuple[BadRow, ...] = ()
    repeated_ids: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of problems by kind and field, most frequent first."""
        found = Counter(f"{p.kind}, {p.field}" for bad in self.bad_rows for p in bad.problems)
        return dict(found.most_common())

    def text(self) -> str:
        """Return the report in words: counts by kind, then the first rows of the bad ones."""
        summary = [f"{self.file}: {len(self.bad_rows)} bad of {self.total} rows"]
        summary += [f"  {count} x {kind}" for kind, count in self.counts().items()]
        summary += self._grades_hint()
        lines = [line for bad in self.bad_rows[:SHOWN_ROWS] for line in bad.lines()]
        left = len(self.bad_rows) - SHOWN_ROWS
        if left > 0:
            lines.append(f"and {left} more bad rows; `relevance data check FILE --bad-rows OUT` writes all of them")
        return "\n".join(summary + lines)

    @property
    def has_grades(self) -> bool:
        """Whether a label is a number other than 0 and 1: the labels 0 and 1 of the file are then grades too."""
        return any(map(is_grade, self._unknown_labels()))

    def _unknown_labels(self) -> list[Any]:
        """Return the unknown labels of rows that have no other problem: values of broken rows may be shifted."""
        alone = (bad.problems[0] for bad in self.bad_rows if len(bad.problems) == 1)
        return [problem.value for problem in alone if problem.kind == UNKNOWN_LABEL]

    def _grades_hint(self) -> list[str]:
        """Return a line about labels other than 0 and 1, if there are any: they may be grades."""
        labels = [value for value in self._unknown_labels() if value not in (None, "")]
        found = Counter(map(shown, labels))
        if not found:
            return []
        some = ", ".join(f"{value} x {count}" for value, count in found.most_common(SHOWN_GRADES))
        more = "" if len(found) <= SHOWN_GRADES else f" and {len(found) - SHOWN_GRADES} more"
        beside = ""
        if self.has_grades:
            beside = ". Then 0 and 1 may be grades too, so no row of the file is used"
        how = "give a cut, as in --grades '>=2.33', or a range of numbers, as in --grades 1:3 (0:1 for shares)"
        if not more:
            option = option_for([*([0, 1] if self.has_grades else []), *labels])
            how = f"write a number from 0 to 1 for each _ in {option}, or {how}"
        return [f"  labels other than 0 and 1: {some}{more}{beside}. If they are grades, {how}"]


@dataclass(frozen=True, slots=True)
class ReadResult(Generic[T]):
    """The good rows of a file, in its order, and the report on all of them."""

    rows: Sequence[T]
    report: ReadReport


class BadRowsError(InputError):
    """A file has bad rows and the user did not ask to skip them. `report` has all of them."""

    def __init__(self, report: ReadReport) -> None:
        super().__init__(report.text())
        self.report = report


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and joined by commas."""
    return ", ".join(repr(name) for name in names)


def shown(value: Any) -> str:
    """Return the value for an error message: quoted, escaped and of limited length."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
