"""Which script a letter is of, and which scripts a language is written in."""

import functools
import unicodedata
from collections import Counter

import regex

from training.text.tables import language, languages

LATIN = "LATIN"
OTHER = "OTHER"

# Scripts of no language in the table.
_FURTHER = "CANADIAN_ABORIGINAL CHEROKEE MONGOLIAN NKO ORIYA SYRIAC THAANA TIBETAN TIFINAGH YI"
# By script extensions, letters that scripts share (the sound mark of both kana) are of these.
_BY_EXTENSION = frozenset({"ARABIC", "KATAKANA"})
_MICRO = "\u00b5"  # the sign of a unit; folded, it would be a Greek letter


@functools.lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Return the script of a letter in capitals (`LATIN`, `HAN`), OTHER for a letter of none, "" for no letter."""
    if unicodedata.category(character)[0] != "L":
        return ""
    # Full width and half width forms are of the script of the letter that they stand for.
    found = None if character == _MICRO else _script_pattern().search(unicodedata.normalize("NFKC", character))
    return OTHER if found is None else str(found.lastgroup)


def scripts_of(text: str) -> Counter[str]:
    """Return how many letters of each script a text has."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return Counter({LATIN: letters}) if letters else Counter()
    return Counter(filter(None, map(script_of, text)))


def language_scripts(code: str) -> frozenset[str]:
    """Return the scripts that a language is written in; none when it is not known here."""
    return language(code).scripts


@functools.cache
def _script_pattern() -> "regex.Pattern[str]":
    names = sorted({*_FURTHER.split(), *(name for each in languages().values() for name in each.scripts)})
    properties = {name: "scx" if name in _BY_EXTENSION else "sc" for name in names}
    return regex.compile("|".join(rf"(?P<{name}>\p{{{kind}={name}}})" for name, kind in properties.items()))
