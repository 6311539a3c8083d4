"""Grades with more than two values, and the target of each: by a mapping, a range or a cut.

A mapping (`E=1,S=.7,C=.3,I=0`) gives each grade a share in [0, 1], a range (`1:3`) maps numbers linearly onto [0, 1],
and a cut (`>=2.33`) gives 0 or 1. The label is 1 from a share of one half on.
"""

import math
import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relevance.errors import ConfigError

GRADE = "grade"  # the extra that keeps the grade of the file
_SAID = {"yes": 1, "y": 1, "no": 0, "n": 0}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[1-9]\d{0,2}([.,]\d{3})+")
_CUTS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Grades:
    """The share of each grade: by a mapping, by comparison with a number, or by its place in a range."""

    text: str
    shares: Mapping[str | float, float]
    cut: tuple[Callable[[float, float], bool], float] | None = None
    range: tuple[float, float] | None = None

    @classmethod
    def parse(cls, text: str) -> "Grades":
        """Read `E=1,S=.7,C=.3,I=0`, `1:3` or `>=2.33`. ConfigError for anything else."""
        sign = next((sign for sign in _CUTS if text.strip().startswith(sign)), None)
        if sign:
            number = number_of(text.strip().removeprefix(sign))
            if number is None:
                raise ConfigError(f"--grades {text!r}: expected a number after {sign}, as in '>=2.33'")
            return cls(text, {}, (_CUTS[sign], number))
        if "=" not in text and ":" in text:
            low, high = (number_of(end) for end in text.split(":", 1))
            if low is None or high is None or low == high:
                raise ConfigError(f"--grades {text!r}: expected two different numbers, the worst and the best, as 1:3")
            return cls(text, {}, range=(low, high))
        return cls(text, _mapping(text))

    def share_of(self, value: Any) -> float | None:
        """Return the share in [0, 1] of a grade; None if it has none."""
        if self.shares:
            return None if isinstance(value, list | dict) else self.shares.get(_key(value))
        number = number_of(value)
        if number is None:
            return None
        if self.cut is not None:
            compare, limit = self.cut
            return float(compare(number, limit))
        low, high = self.range or (0.0, 1.0)
        share = (number - low) / (high - low)
        return share if 0 <= share <= 1 else None

    def expected(self) -> str:
        """Describe the valid grades."""
        if self.range is not None:
            return "a number from {:g} to {:g}, by --grades {}".format(*sorted(self.range), self.text)
        return "a number to compare with --grades" if self.cut else f"a grade of --grades {self.text}"


def _mapping(text: str) -> dict[str | float, float]:
    shares: dict[str | float, float] = {}
    for entry in text.split(","):
        grade, _, given = entry.rpartition("=")
        share = number_of(given)
        if not grade.strip() or share is None or not 0 <= share <= 1:
            raise ConfigError(
                f"--grades {text!r}: {entry!r} is no GRADE=NUMBER with a number from 0 to 1; expected one for each "
                "grade, as in --grades E=1,S=.7,C=.3,I=0, a range, as in --grades 1:3, or a cut, as in "
                "--grades '>=2.33'"
            )
        if shares.setdefault(_key(grade), share) != share:
            raise ConfigError(f"--grades {text!r}: {grade.strip()!r} has two numbers; expected one")
    return shares


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


def count_of(value: Any) -> int | None:
    """Return the whole number from 0 of a value or text; None if it is none.

    None too for `1,000` and `1.000`, which may be a thousand or one.
    """
    if isinstance(value, str) and _GROUPED.fullmatch(value.strip()):
        return None
    number = number_of(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def label_of(value: Any) -> int | None:
    """Return the label 0 or 1 of a number or text (`1.0`, `true`, `yes`, `N`); None if it is neither."""
    if isinstance(value, str) and (said := _SAID.get(value.strip().casefold())) is not None:
        return said
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
