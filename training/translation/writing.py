"""Whether a text is written in a language: by the scripts of its letters, and by lingua where that is installed."""

import difflib
from collections.abc import Sequence

from relevance.tasks import query_key
from training.text.detector import Detector
from training.text.scripts import LATIN, OTHER, language_scripts, script_of

_ALIKE = 0.75  # mended spellings of a brand are still words of the source
_DOUBTFUL_COPY = 0.1
_SELDOM = {"ko": frozenset({"HAN"})}  # scripts that a language has, but today's queries in it have not


def wrong_script(source: str, translation: str, target: str) -> str | None:
    """Return the script that does not belong into a translation, or None; None too for languages of unknown script.

    Latin words may stand in any text (brands), but a language of another script must show its own letters, unless the
    whole text is Latin words of the source, their spelling mended or not.
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
    """Finds texts that are clearly of another language than wanted, among a given set of languages, with lingua.

    Shop queries are short and full of brands, on which every detector errs: only a text of `fewest_letters` letters,
    where another language has at least `sure` of the confidence and the wanted one at most `doubtful`, is rejected.
    """

    def __init__(
        self, languages: Sequence[str], *, sure: float = 0.6, doubtful: float = 0.05, fewest_letters: int = 10
    ) -> None:
        self._sure, self._doubtful, self._fewest_letters = sure, doubtful, fewest_letters
        self._detector = Detector(languages)

    def wrong_language(self, source: str, translation: str, target: str) -> str | None:
        """Return the language that a translation is in instead, judged without the words that it has of its source."""
        known = set(query_key(source).split())
        own = " ".join(word for word in translation.split() if query_key(word) not in known)
        return self._other(own, target, self._doubtful)

    def untranslated(self, copy: str, target: str) -> str | None:
        """Return the language that a copy of its source is in, where it is clearly not the target.

        Of 443 real copies, brand names nearly all, this finds 4 %; of ordinary queries left as they were, a third.
        """
        return self._other(copy, target, _DOUBTFUL_COPY)

    def _other(self, text: str, target: str, doubtful: float) -> str | None:
        if target not in self._detector.codes or sum(map(str.isalpha, text)) < self._fewest_letters:
            return None
        (values,) = self._detector.likelihoods([text])
        if not values or values[target] > doubtful:
            return None
        best = max(values, key=values.__getitem__)
        return best if values[best] >= self._sure else None
