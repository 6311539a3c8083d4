"""Whether the language tag of a query agrees with its words: detection (lingua) among the languages of the data.

Queries are short, hold names and mix languages, so a tag counts as wrong only if the query has words to judge by and
the detector is sure. Knows queries and tags; the caller decides what happens to a wrong tag.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from relevance.errors import ConfigError
from relevance.tasks import UNKNOWN_LANGUAGE, query_key
from training.text.detector import Detector, detectable
from training.text.scripts import LATIN, language_scripts, script_of, scripts_of

_CHUNK = 20_000  # queries handed to the detector at once: bounds memory
_HAN = {"HAN"}


class Outcome(StrEnum):
    """The result of checking one tag."""

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
    name_share: float = 0.05


DEFAULT_CAUTION = Caution()


class TagJudge:
    """Judges the language tags of queries: first it has to `see` all different (query, tag), each once.

    The detector chooses among the tags that occur and `further_languages`; with fewer than two of them it is not asked.
    A tag disagrees when the query has letters, but none of the tag's scripts nor Latin ones alone (Hangul under `es`),
    or when the detector is sure of another language: by `caution.confidence`, or by `short_confidence` for queries of
    `short_words` words or fewer. Words under `shared_in` tags or more count as names, tags under which less
    than `name_share` of a word's queries are aside: a wrong tag in a hundred makes no word a name. A query of names
    alone is not judged. A query of Chinese characters alone is taken for any language that writes them.

    It holds the words that were seen, those with digits aside.
    """

    def __init__(self, caution: Caution = DEFAULT_CAUTION, further_languages: Sequence[str] = ()) -> None:
        self._caution, self._further = caution, further_languages
        self._words: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by tag: queries of each word

    def see(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Count the words of further (query, tag)."""
        for query, tag in pairs:
            self._words[tag].update(word for word in query_key(query).split() if not any(map(str.isdigit, word)))

    def verdicts(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Verdict]:
        """Return the verdict on every different one of some (query, tag) that were seen.

        Raises ConfigError for a further language that the detector does not know, MachineError when lingua is missing.
        """
        pairs = sorted(set(pairs))
        queries = {query: _Query.of(query) for query in dict.fromkeys(query for query, _ in pairs)}
        known = self._known
        verdicts = {(query, tag): _without_detector(queries[query], tag, self._names) for query, tag in pairs}
        evidence = {pair: _evidence(queries[pair[0]], pair[1]) for pair, verdict in verdicts.items() if verdict is None}
        detected = _detect(evidence.values(), known)
        for pair, text in evidence.items():
            verdicts[pair] = _judge(queries[pair[0]], pair[1], detected[text], known, self._caution)
        return {pair: verdict for pair, verdict in verdicts.items() if verdict is not None}

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        """The words that several tags share: brands, models, loan words."""
        counts = sorted(self._words.values(), key=len)
        few = counts[: max(len(counts) - self._caution.shared_in + 1, 0)]  # a name is in one of these
        words = {word for found in few for word in found}
        return frozenset(word for word in words if _is_name([found[word] for found in counts], self._caution))

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        """The languages to choose among."""
        candidates = {*self._words, *self._further} - {UNKNOWN_LANGUAGE}
        return _known(candidates, self._further) if len(candidates) > 1 else frozenset()


def check_tags(
    tagged: Iterable[tuple[str, str]], caution: Caution = DEFAULT_CAUTION, further_languages: Sequence[str] = ()
) -> dict[tuple[str, str], Verdict]:
    """Return the verdict on every different (query, tag), as `TagJudge` has them."""
    judge, pairs = TagJudge(caution, further_languages), set(tagged)
    judge.see(pairs)
    return judge.verdicts(pairs)


@dataclass(frozen=True, slots=True)
class _Query:
    """A query with the scripts of its letters and its words, save those that say nothing of its language."""

    text: str
    scripts: frozenset[str]
    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "_Query":
        parts = text.split()
        return cls(text, frozenset[str]().union(*map(_scripts, parts)), tuple(filter(_says_something, parts)))


# Many queries share words.
@functools.lru_cache(maxsize=1 << 16)
def _scripts(word: str) -> frozenset[str]:
    return frozenset(scripts_of(word))


@functools.lru_cache(maxsize=1 << 16)
def _says_something(word: str) -> bool:
    """Return whether a word can tell a language: single Latin letters and words with digits (sizes) cannot."""
    letters = scripts_of(word)
    return not any(map(str.isdigit, word)) and (letters.total() > letters[LATIN] or letters[LATIN] > 1)


_word_key = functools.lru_cache(maxsize=1 << 16)(query_key)


def _is_name(queries: Sequence[int], caution: Caution) -> bool:
    """Return whether a word is a name, by its number of queries under each tag."""
    least = max(caution.name_share * sum(queries), 1)
    return sum(count >= least for count in queries) >= caution.shared_in


def _without_detector(query: _Query, tag: str, names: frozenset[str]) -> Verdict | None:
    if query.scripts <= {LATIN} and not query.words:
        return Verdict(Outcome.NO_WORDS)
    if query.scripts <= _HAN and language_scripts(tag) >= _HAN:
        return Verdict(Outcome.AGREES, tag, 1.0)
    if query.scripts <= {LATIN} and all(_word_key(word) in names for word in query.words):
        return Verdict(Outcome.NAMES_ONLY)
    return None


def _evidence(query: _Query, tag: str) -> str:
    """Return what the detector reads: no words with digits; no Latin letters beside those of the tag's own script."""
    if (language_scripts(tag) - {LATIN}) & query.scripts:
        return "".join(character if script_of(character) != LATIN else " " for character in query.text)
    return " ".join(query.words) or query.text


def _judge(query: _Query, tag: str, found: tuple[str, float], known: Collection[str], caution: Caution) -> Verdict:
    language, confidence = found
    is_short = len(query.words) <= caution.short_words
    is_sure = confidence >= (caution.short_confidence if is_short else caution.confidence)
    detected = language if is_sure else UNKNOWN_LANGUAGE
    if tag == UNKNOWN_LANGUAGE or (known and tag not in known):
        return Verdict(Outcome.UNTAGGED, detected, confidence)
    if language == tag:
        return Verdict(Outcome.AGREES, detected, confidence)
    native = language_scripts(tag)
    if is_sure or (native and not native & query.scripts and not query.scripts <= {LATIN}):
        return Verdict(Outcome.DISAGREES, detected, confidence)
    return Verdict(Outcome.UNSURE if known else Outcome.UNASKED, UNKNOWN_LANGUAGE, confidence)


def _detect(texts: Iterable[str], languages: Collection[str]) -> Mapping[str, tuple[str, float]]:
    """Return the likeliest language of each text and its confidence; (`unk`, 0) if no language is likely."""
    left = list(dict.fromkeys(texts))
    if len(languages) < 2 or not left:
        return dict.fromkeys(left, (UNKNOWN_LANGUAGE, 0.0))
    detector = Detector(languages)
    found: dict[str, tuple[str, float]] = {}
    for start in range(0, len(left), _CHUNK):
        chunk = left[start : start + _CHUNK]
        found |= zip(chunk, map(_likeliest, detector.likelihoods(chunk)), strict=True)
    return found


def _likeliest(values: Mapping[str, float]) -> tuple[str, float]:
    best = max(values, key=values.__getitem__)
    is_alone = values[best] > 0 and list(values.values()).count(values[best]) == 1
    return (best, values[best]) if is_alone else (UNKNOWN_LANGUAGE, 0.0)


def _known(candidates: set[str], demanded: Sequence[str]) -> frozenset[str]:
    """Return the candidates that the detector knows; ConfigError when one that the user demanded is not."""
    unknown = sorted(set(demanded) - detectable())
    if unknown:
        expected = ", ".join(sorted(detectable()))
        raise ConfigError(f"languages {', '.join(unknown)}: unknown to the detector; expected some of {expected}")
    return frozenset(candidates & detectable())
