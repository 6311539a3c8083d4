"""Units of measure behind numbers: their spellings over languages (units.txt), and the marks of inches and feet.

Knows texts that are folded (training.text.numbers); knows nothing of what a number is.
"""

import re
from collections.abc import Iterator

from training.text.tables import unit_spellings

NO_UNIT: frozenset[str] = frozenset()

_INCHES = re.compile(r"(?<=\d)(?:[\"”″]|''|’’|′′)")
_FEET = re.compile(r"(?<=\d)['’′](?!['’′\w])|(?<=\d)['’′](?=\d{1,2}(?!\d))")  # 10'000 is one number
_OPENED = re.compile(r"(?<!\d)[\"”]")  # in `"iphone 15" case` the marks are quotes
_LATIN = "a-z\u00b5-\u024f\u1e00-\u1eff"
# A word of one script: Japanese and Chinese write no blank behind `10cm`.
_WORD = re.compile(rf"\s*([{_LATIN}]+|[^\W\d_{_LATIN}]+)")
_MEASURE = re.compile(rf"\d{_WORD.pattern}")
_OF_ONE = frozenset({"in", "w", "в"})  # `3 in 1`, in Polish and Russian
_ONE = re.compile(r"\s1(?!\d)")


def with_marks_spelled(text: str) -> str:
    """Return the text with `24"` as `24 in ` and `5'` as `5 ft `, unless the marks are quotes."""
    if not _OPENED.search(text):
        text = _INCHES.sub(" in ", text)
    return _FEET.sub(" ft ", text)


def unit_behind(text: str, at: int) -> frozenset[str]:
    """Return all spellings of the unit at a place of a folded text, behind a number; none if it is no known unit."""
    found = _WORD.match(text, at)
    if found is None or (found[1] in _OF_ONE and _ONE.match(text, found.end())):
        return NO_UNIT
    word = found[1]
    # Words of scripts without blanks may go on behind the unit; one sign alone begins too many other words.
    lengths = (len(word), *(range(len(word) - 1, 1, -1) if word > "\u0e00" else ()))
    return next((unit_spellings()[word[:n]] for n in lengths if word[:n] in unit_spellings()), NO_UNIT)


def units(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the known units behind the numbers of a folded text: as written, and all their spellings."""
    for found in _MEASURE.finditer(text):
        if spellings := unit_behind(text, found.start() + 1):
            yield found[1], spellings


def is_spelled(spellings: frozenset[str], text: str) -> bool:
    """Return whether a folded text has a unit in any of its spellings."""
    words = {found[1] for found in _WORD.finditer(text)}
    if words & spellings:
        return True
    wide = [each for each in spellings if each > "\u0e00"]
    behind = rf"\d\s*(?:{'|'.join(map(re.escape, wide))})"
    return any(len(each) > 2 and each in text for each in spellings) or bool(wide and re.search(behind, text))
