"""What a translation must keep of its source beside its numbers: units, model numbers and brand-like words.

Each check returns the first thing that is lost, or None. They compare folded texts (NFKC, digits of all scripts as
ASCII, lower case). Rules by hand, judged on real queries (docs/log.md); none of them comes from a paper.
"""

import difflib
import re
import unicodedata

from training.text.numbers import folded
from training.text.scripts import LATIN, language_scripts
from training.text.units import SPELLINGS

_NO_CODE = frozenset({"x", "st", "nd", "rd", "th"})  # 5x3 and ordinals are numbers, not model numbers
_MEASURE = re.compile(r"\d\s*([^\W\d_]+)")
_CODE = re.compile(r"[a-z0-9]+(?:[-_/.][a-z0-9]+)*")
_ASCII_WORD = re.compile(r"[A-Za-z]{3,}")
_MARKED_WORD = re.compile(r"\b(?=\w*[a-z]?[A-Z]\w*[A-Z]|[a-z]+[A-Z])[A-Za-z]{3,}\b")
_ALIKE = 0.75  # mended spellings of a brand: `milwaukeee` and `milwaukee`


def lost_unit(source: str, translation: str) -> str | None:
    """Return the first unit behind a number that the translation spells in none of the known ways."""
    after = folded(translation)
    words = set(re.findall(r"[^\W\d_]+", after))
    for unit in _MEASURE.findall(folded(source)):
        spellings = SPELLINGS.get(unit)
        if spellings and not (words & spellings or any(len(s) > 2 and s in after for s in spellings)):
            return unit
    return None


def lost_code(source: str, translation: str) -> str | None:
    """Return the first model number (letters and digits in one word) that the translation lacks."""
    after = _squashed(translation)
    for code in _CODE.findall(folded(source)):
        letters = re.findall(r"[a-z]+", code)
        is_code = letters and any(c.isdigit() for c in code)
        is_measure = all(word in SPELLINGS or word in _NO_CODE for word in letters)
        if is_code and not is_measure and _squashed(code) not in after:
            return code
    return None


def lost_brand(source: str, translation: str, target: str) -> str | None:
    """Return the first brand-like word that a translation into a language of Latin script lacks.

    Brand-like are Latin words in a text of another script, and words with capitals inside (`iPhone`, `BMW`) in a text
    that is not all capitals. Other scripts may write a brand in their own letters, which is not checked.
    """
    if language_scripts(target) != {LATIN}:
        return None
    words = folded(translation).split()
    for word in brand_words(source):
        wanted = word.casefold()
        if wanted not in _squashed(translation) and not difflib.get_close_matches(wanted, words, 1, _ALIKE):
            return word
    return None


def brand_words(source: str) -> list[str]:
    """Return the brand-like words of a text."""
    text = unicodedata.normalize("NFKC", source)
    letters = [c for c in text if c.isalpha()]
    if any(ord(c) > 0x24F for c in letters):
        return _ASCII_WORD.findall(text)
    return [] if text.isupper() else _MARKED_WORD.findall(text)


def _squashed(text: str) -> str:
    return "".join(c for c in folded(text) if c.isascii() and c.isalnum())
