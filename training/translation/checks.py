"""Checks of one translation by its text alone: words of the source that must stay, length, script and language.

Each check returns the first thing that is wrong, or None. Units, model numbers and brands are compared in folded texts
(NFKC, ASCII digits, lower case). The rules are hand-written, judged on real queries (docs/log.md), from no paper.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence

from relevance.tasks import query_key
from training.text.detector import Detector
from training.text.measures import is_spelled, units, with_marks_spelled
from training.text.numbers import folded
from training.text.scripts import LATIN, OTHER, language_scripts, script_of
from training.text.tables import unit_spellings

_NO_CODE = frozenset({"x", "st", "nd", "rd", "th"})  # 5x3 and ordinals are numbers, not model numbers
_CODE = re.compile(r"[a-z0-9]+(?:[-_/.][a-z0-9]+)*")
_ASCII_WORD = re.compile(r"[A-Za-z]{3,}")
_MARKED_WORD = re.compile(r"\b(?=\w*[a-z]?[A-Z]\w*[A-Z]|[a-z]+[A-Z])[A-Za-z]{3,}\b")
_ALSO_WORDS = frozenset({"to", "go", "mo", "po", "pie", "pies", "once", "in", "k", "l", "m", "v", "w", "型", "金"})
_CURRENCIES = re.compile("[$€£¥₹₩₽₺฿₫]")
_ROMAN = re.compile("[IVX]+")  # numbers (training.text.numbers)
_ALIKE = 0.75  # corrected spellings of a brand: `milwaukeee` and `milwaukee`
_SURE, _DOUBTFUL, _DOUBTFUL_COPY = 0.6, 0.05, 0.1  # confidence of another language, and of the wanted one
_FEWEST_LETTERS = 10
_SELDOM = {"ko": frozenset({"HAN"})}  # scripts that a language has, but today's queries in it have not
_WIDE_WEIGHT = 2.2  # one ideograph, kana or hangul syllable says as much as so many Latin letters (median of 4,800)
_LENGTH_OFFSET = 5.0  # short queries vary more: `koc` is a whole Polish blanket


def is_copied(text: str, translation: str) -> bool:
    """Whether a translation has the words of its source, in whatever order."""
    return sorted(query_key(text).split()) == sorted(query_key(translation).split())


def wrong_length(source: str, translation: str, limit: float) -> str | None:
    """Return the ratio of the lengths, by letters weighted by script, where it is over `limit` or under its inverse."""
    ratio = _weight(translation) / _weight(source)
    return None if 1 / limit <= ratio <= limit else f"{ratio:.2f}"


def _weight(text: str) -> float:
    seen = [c for c in unicodedata.normalize("NFKC", text) if not c.isspace()]
    return _LENGTH_OFFSET + sum(_WIDE_WEIGHT if unicodedata.east_asian_width(c) in "WF" else 1.0 for c in seen)


def lost_unit(source: str, translation: str) -> str | None:
    """Return the first unit behind a number that the translation spells in none of the known ways."""
    before, after = (folded(with_marks_spelled(text)) for text in (source, translation))
    return next((unit for unit, spellings in units(before) if not is_spelled(spellings, after)), None)


def added_unit(source: str, translation: str) -> str | None:
    """Return the first unit behind a number of the translation, or another currency, that the source has not.

    Spellings that are words of some language too (`2 to 3`, `3 l'oréal`) are no additions.
    """
    before, after = (folded(with_marks_spelled(text)) for text in (source, translation))
    for unit, spellings in units(after):
        if unit not in _ALSO_WORDS and not is_spelled(spellings, before):
            return unit
    signs = [_CURRENCIES.findall(text) for text in (before, after)]
    return next((sign for sign in signs[1] if signs[0] and sign not in signs[0]), None)


def lost_code(source: str, translation: str) -> str | None:
    """Return the first model number (letters and digits in one word) that the translation lacks."""
    after = _squashed(translation)
    for code in _CODE.findall(folded(source)):
        letters = re.findall(r"[a-z]+", code)
        is_code = letters and any(c.isdigit() for c in code)
        is_measure = all(word in unit_spellings() or word in _NO_CODE for word in letters)
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
        return [word for word in _ASCII_WORD.findall(text) if not _ROMAN.fullmatch(word)]
    words = [] if text.isupper() else _MARKED_WORD.findall(text)
    return [word for word in words if not _ROMAN.fullmatch(word)]


def _squashed(text: str) -> str:
    return "".join(c for c in folded(text) if c.isascii() and c.isalnum())


def wrong_script(source: str, translation: str, target: str) -> str | None:
    """Return the script that does not belong in a translation, or None (also for languages of unknown script).

    Latin words (brands) may occur in any text, but a translation into another script must have letters of that script,
    unless all its words are Latin words of the source, with their spelling corrected or not.
    """
    expected = language_scripts(target) - _SELDOM.get(target, frozenset())
    if not expected:
        return None
    found = [script for script in map(script_of, translation) if script not in ("", OTHER)]
    for script in found:
        if script not in expected and script != LATIN:
            return script
    if expected == {LATIN} or any(script in expected for script in found):
        return None
    known = query_key(source).split()
    is_kept = all(difflib.get_close_matches(word, known, 1, _ALIKE) for word in query_key(translation).split())
    return None if is_kept else LATIN


class LanguageCheck:
    """Finds texts that are clearly in another language than wanted, among the given languages, with lingua.

    Shop queries are short and full of brands, where detectors make mistakes. So a text is rejected only if it has 10
    letters, another language has a confidence of at least 0.6, and the wanted one has at most 0.05.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        self._detector = Detector(languages)

    def wrong_language(self, source: str, translation: str, target: str) -> str | None:
        """Return the language that a translation is in instead; words of its source are ignored."""
        known = set(query_key(source).split())
        own = " ".join(word for word in translation.split() if query_key(word) not in known)
        return self._other(own, target, _DOUBTFUL)

    def untranslated(self, copy: str, target: str) -> str | None:
        """Return the language of a copy of its source if it is clearly not the target.

        Finds 4 % of 443 real copies, nearly all brand names, and a third of ordinary queries left untranslated.
        """
        return self._other(copy, target, _DOUBTFUL_COPY)

    def _other(self, text: str, target: str, doubtful: float) -> str | None:
        if target not in self._detector.codes or sum(map(str.isalpha, text)) < _FEWEST_LETTERS:
            return None
        (values,) = self._detector.likelihoods([text])
        if not values or values[target] > doubtful:
            return None
        best = max(values, key=values.__getitem__)
        return best if values[best] >= _SURE else None
