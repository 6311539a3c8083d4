"""The numbers of a text, compared as numbers: `1,5` is 1.5, `½` is 0.5, and a translation keeps them in their order.

Knows how numbers are written: digits of every script, decimal commas and points, thousands separators, fractions,
negative numbers, Roman numerals of two signs and more.
Where a spelling has several readings (`1.500`, `1,2`), two texts agree if any of their readings do.
"""

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from training.text.measures import unit_behind, with_marks_spelled

_Value = Fraction | str
_Reading = tuple[_Value, ...]

_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞↉])")  # else NFKC would make 11/2 of 1½
_RAISED = "⁰¹²³⁴-⁹₀-₉"
_POWER = re.compile(rf"(?<=[^\W\d_])[{_RAISED}]+")
_OTHER_RAISED = re.compile(rf"[{_RAISED}]+")
_SQUARE = re.compile(r"(?<![a-z])(mm|cm|m|km|ft|in)[23](?!\w)")  # m2 is a unit
_SEPARATORS = str.maketrans({"٫": ".", "٬": ",", "⁄": "/", "’": "'", "，": ",", "．": "."})
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d.,/])")
_LETTERS = "a-z\u00b5-\u024f\u1e00-\u1eff"
_NUMBER = re.compile(
    r"(?P<whole>\d+)[ -](?P<top>\d+)/(?P<bottom>\d+)"
    r"|(?P<over>\d+)/(?P<under>\d+)"
    r"|(?P<plain>\d+(?:[.,']\d+)*)"
    r"|(?P<point>(?<![\w.,])[.,]\d+)"
    rf"|(?P<roman>(?<![{_LETTERS}\d'])(?=[ivx]{{2}})(?:x{{0,2}}(?:ix|iv|v?i{{1,3}}|v)|x{{2}})(?![{_LETTERS}\d']))"
)
# A minus sign of a number: not of a range (`5 -7`), nor within a word (`usb-3`).
_MINUS = re.compile(r"(?:^|[^\d\s]\s+|[(])[-−–‒]$")
_ROMAN = {"x": 10, "ix": 9, "v": 5, "iv": 4, "i": 1}
# Signs that are often no number: `v neck`, `iv bag`, Spanish `vi`. Those of one sign are never read as one.
_DOUBTFUL = frozenset({"iv", "vi", "xi", "xv", "xx"})
_MOST_DIGITS = 40  # longer ones are compared as text
_MOST_READINGS = 256


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written in a text, its readings, and the spellings of the unit after it (empty: none known)."""

    text: str
    readings: tuple[_Reading, ...]
    unit: frozenset[str]


def folded(text: str) -> str:
    """Return the text in NFKC and lower case, digits of all scripts as ASCII digits."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text)


def numbers(text: str, *, joined: bool = False) -> list[Number]:
    """Return the numbers of a text, in their order; `joined`: `10 000` is one. Powers of units (m²) are none."""
    text = _VULGAR.sub(" ", with_marks_spelled(text))
    text = _OTHER_RAISED.sub(lambda found: f" {found.group()} ", _POWER.sub("", text))
    text = _SQUARE.sub(r"\1", folded(text.translate(_SEPARATORS)).translate(_SEPARATORS))
    text = _SPACED.sub(lambda found: found.group().replace(" ", ""), text) if joined else text
    found = []
    for match in _NUMBER.finditer(text):
        sign = -1 if _MINUS.search(text, 0, match.start()) else 1
        readings = tuple(dict.fromkeys(_signed(reading, sign) for reading in _readings(match)))
        found.append(Number(match.group(), readings, unit_behind(text, match.end())))
    return found


def lost_number(source: str, translation: str) -> str | None:
    """Return the first number that differs, added ones too, or None.

    Numbers come in the same order; those with a known unit behind them may come in any order, each with its unit.
    """
    for as_one in itertools.product((False, True), repeat=2):
        before, after = (numbers(text, joined=one) for text, one in zip((source, translation), as_one, strict=True))
        if _agree(before, after) or _agree_by_unit(before, after):
            return None
    return _first_difference(numbers(source), numbers(translation))


def _agree(before: list[Number], after: list[Number]) -> bool:
    units = [(a.unit, b.unit) for a, b in zip(before, after, strict=False)]
    if len(before) == len(after) > 1 and any(a and b and not a & b for a, b in units):
        return False  # units that changed places
    return bool(_sequences(before) & _sequences(after))


def _agree_by_unit(before: list[Number], after: list[Number]) -> bool:
    left = list(after)
    rest = []
    for number in before:
        twin = next((other for other in left if number.unit & other.unit and _agree([number], [other])), None)
        if twin is None:
            rest.append(number)
        else:
            left.remove(twin)
    return _agree(rest, left)


def _sequences(found: list[Number]) -> set[_Reading]:
    """Return the sequences of values that the numbers can be read as; too many readings are cut to the first."""
    readings = [number.readings for number in found]
    if math.prod(map(len, readings)) > _MOST_READINGS:
        readings = [some[:1] for some in readings]
    return {tuple(itertools.chain(*chosen)) for chosen in itertools.product(*readings)}


def _first_difference(before: list[Number], after: list[Number]) -> str:
    lists = [[value for number in found for value in number.readings[0]] for found in (before, after)]
    counts = [Counter(values) for values in lists]
    changed = (counts[0] - counts[1]) or (counts[1] - counts[0])
    if changed:
        return str(next(iter(changed)))
    return next((str(a) for a, b in zip(*lists, strict=True) if a != b), before[0].text)


def _readings(match: re.Match[str]) -> Iterator[_Reading]:
    parts = {name: text for name, text in match.groupdict().items() if text is not None}
    if "whole" in parts:
        whole, top, bottom = (_value(parts[name]) for name in ("whole", "top", "bottom"))
        if (part := _ratio(top, bottom)) is not None and isinstance(whole, Fraction):
            yield (whole + part,)
            yield whole, part
        yield whole, top, bottom
    elif "over" in parts:
        top, bottom = _value(parts["over"]), _value(parts["under"])
        if (part := _ratio(top, bottom)) is not None:
            yield (part,)
        yield top, bottom
    elif "roman" in parts:
        yield (_roman(parts["roman"]),)
        if parts["roman"] in _DOUBTFUL:
            yield ()
    elif "point" in parts:
        yield (_decimal("0", parts["point"][1:]),)
    else:
        yield from _plain(parts["plain"])


def _roman(text: str) -> Fraction:
    return Fraction(sum(_ROMAN[sign] for sign in re.findall("ix|iv|x|v|i", text)))


def _signed(reading: _Reading, sign: int) -> _Reading:
    """Return a reading whose first value has a sign."""
    return tuple(value * sign if n == 0 and isinstance(value, Fraction) else value for n, value in enumerate(reading))


def _plain(text: str) -> Iterator[_Reading]:
    """Yield the readings of digits with separators between them: decimal, grouped, or several numbers."""
    groups = re.split(r"[.,']", text)
    marks = [c for c in text if not c.isdigit()]
    if not marks:
        yield (_value(text),)
        return
    is_whole = len(set(marks)) == 1
    found: list[_Reading] = []
    if len(marks) == 1 and marks[0] != "'" and not (groups[1] == "000" and _is_grouped(groups)):  # 1,000 is not 1
        found.append((_decimal(*groups),))
    if is_whole and _is_grouped(groups):
        found.append((_value("".join(groups)),))
    if len(marks) > 1 and len(set(marks[:-1])) == 1 and marks[-1] not in marks[:-1] and _is_grouped(groups[:-1]):
        found.append((_decimal("".join(groups[:-1]), groups[-1]),))
    yield from found
    if not found or "," in marks:
        yield tuple(map(_value, groups))


def _is_grouped(groups: list[str]) -> bool:
    """Whether groups of digits are one number: by thousands, or as in India (1,00,000)."""
    first, *rest = map(len, groups)
    if not 1 <= first <= 3 or not rest or groups[0].startswith("0"):
        return False
    return rest[-1] == 3 and (all(n == 3 for n in rest) or (first <= 2 and all(n == 2 for n in rest[:-1])))


def _value(digits: str) -> _Value:
    return Fraction(int(digits)) if len(digits) <= _MOST_DIGITS else digits


def _decimal(whole: str, part: str) -> _Value:
    if len(whole) + len(part) > _MOST_DIGITS:
        return f"{whole}.{part}"
    return Fraction(int(whole + part), 10 ** len(part))


def _ratio(top: _Value, bottom: _Value) -> Fraction | None:
    return top / bottom if isinstance(top, Fraction) and isinstance(bottom, Fraction) and bottom else None
