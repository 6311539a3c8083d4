"""Which script a letter is of, and which scripts a language is written in."""

import functools
import unicodedata
from collections import Counter

import regex

LATIN = "LATIN"
OTHER = "OTHER"

_LANGUAGES = {
    LATIN: "af az bs ca cs cy da de en eo es et eu fi fil fr ga gl hr hu id is it lt lv ms mt nb nl nn no pl pt ro sk "
    "sl sq sr sv sw tl tr uz vi zu la lg mi sn so st tn ts xh yo",
    "ARABIC": "ar fa ur ps ckb ug pa",
    "ARMENIAN": "hy",
    "BENGALI": "bn",
    "BOPOMOFO": "zh",
    "CYRILLIC": "ru uk be bg mk kk ky mn tg sr",
    "DEVANAGARI": "hi mr ne",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HAN": "zh ja ko",
    "HANGUL": "ko",
    "HEBREW": "he",
    "KATAKANA": "ja",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
# Of none of these languages.
_FURTHER = "CANADIAN_ABORIGINAL CHEROKEE MONGOLIAN NKO ORIYA SYRIAC THAANA TIBETAN TIFINAGH YI"
# By script extensions, letters that scripts share (the sound mark of both kana) are of these.
_BY_EXTENSION = frozenset({"ARABIC", "KATAKANA"})
_SCRIPT = regex.compile(
    "|".join(
        rf"(?P<{name}>\p{{{'scx' if name in _BY_EXTENSION else 'sc'}={name}}})"
        for name in [*_LANGUAGES, *_FURTHER.split()]
    )
)
_MICRO = "\u00b5"  # the sign of a unit; folded, it would be a Greek letter


@functools.lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Return the script of a letter in capitals (`LATIN`, `HAN`), OTHER for a letter of none, "" for no letter."""
    if unicodedata.category(character)[0] != "L":
        return ""
    # Full width and half width forms are of the script of the letter that they stand for.
    found = None if character == _MICRO else _SCRIPT.search(unicodedata.normalize("NFKC", character))
    return OTHER if found is None else str(found.lastgroup)


def scripts_of(text: str) -> Counter[str]:
    """Return how many letters of each script a text has."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return Counter({LATIN: letters}) if letters else Counter()
    return Counter(filter(None, map(script_of, text)))


@functools.cache
def language_scripts(language: str) -> frozenset[str]:
    """Return the scripts that a language is written in; none when it is not known here."""
    return frozenset(script for script, languages in _LANGUAGES.items() if language in languages.split())
