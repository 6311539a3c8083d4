"""The language detector, lingua: which languages it knows, and how likely each of some of them is for a text.

The only module that imports lingua. Knows texts and language codes; the caller sets the thresholds.
"""

import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from relevance.errors import MachineError

if TYPE_CHECKING:
    from lingua import ConfidenceValue, Language, LanguageDetector

# lingua's sums differ in their last bits from run to run.
_DIGITS = 9


class Detector:
    """Scores texts for those of some languages that lingua knows (`codes`); with fewer than two it gives no scores.

    Raises MachineError when lingua is not installed.
    """

    def __init__(self, languages: Collection[str]) -> None:
        self.codes = tuple(sorted(set(languages) & detectable()))
        self._detector = _built(self.codes) if len(self.codes) > 1 else None

    def likelihoods(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return for each text the confidence in [0, 1] of every code of `codes`, none below two codes.

        Those of one text sum to 1, or are all 0 where nothing speaks for any. Equal runs give equal figures. Runs on
        all cores.
        """
        if self._detector is None:
            return [{} for _ in texts]
        found = self._detector.compute_language_confidence_values_in_parallel(list(texts))
        return [_by_code(values) for values in found]


def detectable() -> frozenset[str]:
    """Return the codes of all languages that lingua knows. MachineError when it is not installed."""
    return frozenset(_languages())


def _by_code(values: "Sequence[ConfidenceValue]") -> dict[str, float]:
    return {_code(found.language): round(found.value, _DIGITS) for found in values}


@functools.cache
def _languages() -> "dict[str, Language]":
    try:
        from lingua import Language
    except ModuleNotFoundError:
        raise MachineError(
            "package 'lingua-language-detector' is not installed; expected: pip install '.[train]', "
            "or the check of languages switched off"
        ) from None
    return {_code(language): language for language in Language.all()}


@functools.lru_cache(maxsize=8)
def _built(codes: tuple[str, ...]) -> "LanguageDetector":
    from lingua import LanguageDetectorBuilder

    by_code = _languages()
    return LanguageDetectorBuilder.from_languages(*(by_code[code] for code in codes)).build()


@functools.cache
def _code(language: "Language") -> str:
    return str(language.iso_code_639_1.name).lower()
