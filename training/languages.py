"""Whether the language tag of a query agrees with its words: detection (lingua) among the languages of the data.

Queries are short, hold names and mix languages, so a tag counts as wrong only when there is something to judge by and
the detector is sure. Knows queries and tags; what is done about a wrong tag is the caller's business.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from relevance.errors import ConfigError, MachineError
from relevance.tasks import UNKNOWN_LANGUAGE, query_key
from training.progress import Meter
from training.scripts import LATIN, language_scripts, script_of, scripts_of

if TYPE_CHECKING:
    from lingua import Language, LanguageDetector

_CHUNK = 20_000  # queries handed to the detector at once: bounds memory and lets progress show
_HAN = {"HAN"}


class Outcome(StrEnum):
    """What checking one tag came to."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNSURE = "unsure"  # judged, but no other language is likely enough to overrule the tag
    UNASKED = "unasked"  # the data has no second language to choose from
    UNTAGGED = "untagged"  # tag `unk`, or a code that the detector does not know
    NO_WORDS = "no words"  # digits and signs only
    NAMES_ONLY = "names only"  # words that several languages share: brands, models, loan words


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one (query, tag); `detected` (`unk` unless sure) and its `confidence` in [0, 1]."""

    outcome: Outcome
    detected: str = UNKNOWN_LANGUAGE
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Caution:
    """How sure the detector must be to overrule a tag: see `check_tags`."""

    confidence: float = 0.8
    short_confidence: float = 0.95
    short_words: int = 2
    shared_in: int = 3


DEFAULT_CAUTION = Caution()


def check_tags(
    tagged: Iterable[tuple[str, str]], caution: Caution = DEFAULT_CAUTION, further_languages: Sequence[str] = ()
) -> dict[tuple[str, str], Verdict]:
    """Return the verdict on every different (query, tag).

    The detector chooses among the tags that occur and `further_languages`; with fewer than two of them it is not asked.
    A tag disagrees when the query has letters, but none of the tag's scripts nor Latin ones alone (Hangul under `es`),
    or when the detector is sure of another language: by `caution.confidence`, or by `short_confidence` for queries of
    `short_words` words or fewer. Words under `shared_in` tags or more count as names; a query of nothing else is not
    judged. A query of Chinese characters alone is taken for any language that writes them.

    Raises ConfigError for a further language that the detector does not know, MachineError when lingua is missing.
    """
    pairs = sorted(set(tagged))
    names = _names(pairs, caution.shared_in)
    verdicts = {pair: _without_detector(*pair, names) for pair in pairs}
    left = [pair for pair, verdict in verdicts.items() if verdict is None]
    candidates = {tag for _, tag in pairs} - {UNKNOWN_LANGUAGE} | set(further_languages)
    known = _known(candidates, further_languages) if len(candidates) > 1 else set[str]()
    detected = _detect([_evidence(*pair) for pair in left], sorted(known))
    for pair, (language, confidence) in zip(left, detected, strict=True):
        verdicts[pair] = _judge(pair, language, confidence, known, caution)
    return {pair: verdict for pair, verdict in verdicts.items() if verdict is not None}


def _names(pairs: Sequence[tuple[str, str]], shared_in: int) -> frozenset[str]:
    tags: defaultdict[str, set[str]] = defaultdict(set)
    for query, tag in pairs:
        for word in query_key(query).split():
            tags[word].add(tag)
    return frozenset(word for word, found in tags.items() if len(found) >= shared_in)


def _words(query: str) -> list[str]:
    """Return the words of a query save those with a digit and single Latin letters: sizes are of no language."""
    return [word for word in query.split() if not any(map(str.isdigit, word)) and _says_something(scripts_of(word))]


def _says_something(letters: Counter[str]) -> bool:
    return letters.total() > letters[LATIN] or letters[LATIN] > 1


def _without_detector(query: str, tag: str, names: frozenset[str]) -> Verdict | None:
    letters = scripts_of(query).keys()
    if letters <= {LATIN} and not _words(query):
        return Verdict(Outcome.NO_WORDS)
    if letters <= _HAN and language_scripts(tag) >= _HAN:
        return Verdict(Outcome.AGREES, tag, 1.0)
    if letters <= {LATIN} and all(query_key(word) in names for word in _words(query)):
        return Verdict(Outcome.NAMES_ONLY)
    return None


def _evidence(query: str, tag: str) -> str:
    """Return what the detector reads: no words with digits; no Latin letters beside those of the tag's own script."""
    native = language_scripts(tag) - {LATIN}
    if native & scripts_of(query).keys():
        return "".join(character if script_of(character) != LATIN else " " for character in query)
    return " ".join(_words(query)) or query


def _judge(pair: tuple[str, str], language: str, confidence: float, known: set[str], caution: Caution) -> Verdict:
    query, tag = pair
    is_short = len(_words(query)) <= caution.short_words
    is_sure = confidence >= (caution.short_confidence if is_short else caution.confidence)
    found = language if is_sure else UNKNOWN_LANGUAGE
    if tag == UNKNOWN_LANGUAGE or (known and tag not in known):
        return Verdict(Outcome.UNTAGGED, found, confidence)
    if language == tag:
        return Verdict(Outcome.AGREES, found, confidence)
    native, letters = language_scripts(tag), scripts_of(query).keys()
    if is_sure or (native and not native & letters and not letters <= {LATIN}):
        return Verdict(Outcome.DISAGREES, found, confidence)
    return Verdict(Outcome.UNSURE if known else Outcome.UNASKED, UNKNOWN_LANGUAGE, confidence)


def _detect(texts: Sequence[str], languages: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield the likeliest language of each text and its confidence; (`unk`, 0) where none is likely at all."""
    if len(languages) < 2 or not texts:
        yield from ((UNKNOWN_LANGUAGE, 0.0) for _ in texts)
        return
    detector = _detector(languages)
    with Meter("language detection", len(texts), "queries") as meter:
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            for values in detector.compute_language_confidence_values_in_parallel(chunk):
                best = values[0]
                is_likely = best.value > 0 and (len(values) == 1 or values[1].value < best.value)
                yield (_code(best.language), best.value) if is_likely else (UNKNOWN_LANGUAGE, 0.0)
            meter.advance(len(chunk))


def _detector(languages: Sequence[str]) -> "LanguageDetector":
    from lingua import LanguageDetectorBuilder

    by_code = _languages_by_code()
    return LanguageDetectorBuilder.from_languages(*(by_code[code] for code in languages)).build()


def _known(candidates: set[str], demanded: Sequence[str]) -> set[str]:
    """Return the candidates that the detector knows; ConfigError when one that the user demanded is not."""
    all_known = _languages_by_code().keys()
    unknown = sorted(set(demanded) - all_known)
    if unknown:
        expected = ", ".join(sorted(all_known))
        raise ConfigError(f"languages {', '.join(unknown)}: unknown to the detector; expected some of {expected}")
    return candidates & all_known


def _languages_by_code() -> dict[str, "Language"]:
    try:
        from lingua import Language
    except ModuleNotFoundError:
        raise MachineError("package 'lingua' is not installed; expected: pip install '.[train]'") from None
    return {_code(language): language for language in Language.all()}


def _code(language: "Language") -> str:
    return str(language.iso_code_639_1.name).lower()
