"""Which script a character is of, and which scripts a language is written in, from the names that Unicode gives."""

import functools
import unicodedata
from collections import Counter

LATIN = "LATIN"
OTHER = "OTHER"

# First words of character names that stand for a script of another name.
_RENAMED = {"CJK": "HAN", "KATAKANA-HIRAGANA": "KATAKANA", "KANGXI": "HAN", "IDEOGRAPHIC": "HAN"}
_NO_SCRIPT = {"COMBINING", "MODIFIER", "VARIATION", "FEMININE", "MASCULINE", "MATHEMATICAL", "DOUBLE-STRUCK"}
_MICRO = "\u00b5"  # the sign of a unit; folded, it would be a Greek letter

_OF_SCRIPTS = {
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
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}


@functools.lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Return the script of a letter in capitals (`LATIN`, `HAN`), OTHER for a letter of none, "" for no letter."""
    if unicodedata.category(character)[0] != "L":
        return ""
    if character == _MICRO:
        return OTHER
    folded = unicodedata.normalize("NFKC", character)[0]  # full width and half width forms are of their script
    word = unicodedata.name(folded, "").partition(" ")[0]
    word = _RENAMED.get(word, word)
    return OTHER if not word or word in _NO_SCRIPT else word


def scripts_of(text: str) -> Counter[str]:
    """Return how many letters of each script a text has."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return Counter({LATIN: letters}) if letters else Counter()
    return Counter(filter(None, map(script_of, text)))


@functools.cache
def language_scripts(language: str) -> frozenset[str]:
    """Return the scripts that a language is written in; none when it is not known here."""
    return frozenset(script for script, languages in _OF_SCRIPTS.items() if language in languages.split())
