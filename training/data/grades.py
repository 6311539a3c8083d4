"""Grades with more than two values, and the labels of grades: a mapping (`E=1,S=1,C=0,I=0`) or a cut (`>=2.33`)."""

import math
import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relevance.errors import ConfigError

GRADE = "grade"  # the extra that keeps the grade of the file
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_CUTS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Grades:
    """The label of each grade: by a mapping, or by comparison with a number."""

    text: str
    labels: Mapping[str | float, int]
    cut: tuple[Callable[[float, float], bool], float] | None = None

    @classmethod
    def parse(cls, text: str) -> "Grades":
        """Read `E=1,S=1,C=0,I=0` or `>=2.33`. ConfigError for anything else."""
        sign = next((sign for sign in _CUTS if text.strip().startswith(sign)), None)
        if sign:
            number = number_of(text.strip().removeprefix(sign))
            if number is None:
                raise ConfigError(f"--grades {text!r}: expected a number after {sign}, as in '>=2.33'")
            return cls(text, {}, (_CUTS[sign], number))
        labels: dict[str | float, int] = {}
        for entry in text.split(","):
            grade, equals, label = entry.rpartition("=")
            if not equals or not grade.strip() or label.strip() not in ("0", "1"):
                raise ConfigError(
                    f"--grades {text!r}: {entry!r} is no GRADE=0 or GRADE=1; expected a label "
                    "of each grade, as in --grades E=1,S=1,C=0,I=0, or a cut, as in --grades '>=2.33'"
                )
            if labels.setdefault(_key(grade), int(label)) != int(label):
                raise ConfigError(f"--grades {text!r}: {grade.strip()!r} has two labels; expected one")
        return cls(text, labels)

    def label_of(self, value: Any) -> int | None:
        """Return the label of a grade; None if it has no label."""
        if self.cut is None:
            return None if isinstance(value, list | dict) else self.labels.get(_key(value))
        number, (compare, limit) = number_of(value), self.cut
        return None if number is None else int(compare(number, limit))

    def expected(self) -> str:
        """Describe the valid grades."""
        return f"a grade of --grades {self.text}" if self.cut is None else "a number to compare with --grades"


def option_for(grades: Iterable[Any]) -> str:
    """Return the option `--grades` to copy, with `_` in place of each grade's label."""
    numbers = [(number_of(grade), str(grade).strip()) for grade in grades]
    names = dict.fromkeys(text if number is None else f"{number:g}" for number, text in numbers)
    return f"--grades {shlex.quote(','.join(f'{name}=_' for name in names if ',' not in name))}"


def number_of(value: Any) -> float | None:
    """Return the finite number of a value or text (`1.00`, `1,5`, `true`); None if it is not a number."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("true", "false"):
            return float(text == "true")
        value = text.replace(",", ".") if _NUMBER.fullmatch(text) else math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def label_of(value: Any) -> int | None:
    """Return the label 0 or 1 of a number or text (`1.0`, `true`); None if it is neither."""
    number = number_of(value)
    return int(number) if number in (0, 1) else None


def is_grade(value: Any) -> bool:
    """Return whether a value is a number other than 0 and 1. The values 0 and 1 of such a file are grades too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value not in (0, 1)
    return number_of(value) not in (None, 0, 1)


def _key(grade: Any) -> str | float:
    number = number_of(grade)
    return str(grade).strip().casefold() if number is None else number
