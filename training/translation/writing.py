"""Whether a text is written in a language: by the scripts of its letters, and by lingua where that is installed."""

import difflib
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from relevance.errors import MachineError
from relevance.tasks import query_key
from training.translation.languages import LATIN, scripts_of

if TYPE_CHECKING:
    from lingua import LanguageDetector

_ALIKE = 0.75  # mended spellings of a brand are still words of the source


def wrong_script(source: str, translation: str, target: str) -> str | None:
    """Return the script that does not belong into a translation, or None; None too for languages not in the table.

    Latin words may stand in any text (brands), but a language of another script must show its own letters, unless the
    whole text is Latin words of the source, their spelling mended or not.
    """
    expected = scripts_of(target)
    if expected is None:
        return None
    found = [_script(c) for c in translation if c.isalpha()]
    for script in found:
        if script and script not in expected and script != "LATIN":
            return script
    if expected == LATIN or any(script in expected for script in found):
        return None
    known = query_key(source).split()
    is_kept = all(difflib.get_close_matches(word, known, 1, _ALIKE) for word in query_key(translation).split())
    return None if is_kept else "LATIN"


@cache
def _script(letter: str) -> str | None:
    """Return the script of a letter; None for letters of no script (modifiers, the sound mark of kana)."""
    if unicodedata.category(letter) == "Lm":
        return None
    word = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
    return word if word not in ("", "MODIFIER", "MASCULINE", "FEMININE", "MICRO", "FULLWIDTH", "HALFWIDTH") else None


class LanguageCheck:
    """Finds texts that are clearly of another language than wanted, among a given set of languages, with lingua.

    Shop queries are short and full of brands, on which every detector errs: only a text of `fewest_letters` letters,
    where another language has at least `sure` of the confidence and the wanted one at most `doubtful`, is rejected.
    """

    def __init__(
        self, languages: Sequence[str], *, sure: float = 0.6, doubtful: float = 0.05, fewest_letters: int = 10
    ) -> None:
        self._sure, self._doubtful, self._fewest_letters = sure, doubtful, fewest_letters
        self._codes = frozenset(languages)
        self._detector = _detector(tuple(sorted(self._codes)))

    def wrong_language(self, source: str, translation: str, target: str) -> str | None:
        """Return the language that a translation is in instead, judged without the words that it has of its source."""
        known = set(query_key(source).split())
        own = " ".join(word for word in translation.split() if query_key(word) not in known)
        if self._detector is None or sum(map(str.isalpha, own)) < self._fewest_letters:
            return None
        found = self._detector.compute_language_confidence_values(own)
        values = {one.language.iso_code_639_1.name.lower(): one.value for one in found}
        if target not in values or values[target] > self._doubtful:
            return None
        best = max(values, key=lambda code: values[code])
        return best if values[best] >= self._sure else None


@cache
def _detector(codes: tuple[str, ...]) -> "LanguageDetector | None":
    """Return a detector of those languages that lingua knows, None where they are fewer than two."""
    try:
        from lingua import Language, LanguageDetectorBuilder
    except ModuleNotFoundError:
        raise MachineError(
            "package 'lingua-language-detector' is not installed; expected it, or the language gate switched off"
        ) from None
    known = [language for language in Language.all() if language.iso_code_639_1.name.lower() in codes]
    return LanguageDetectorBuilder.from_languages(*known).build() if len(known) > 1 else None
