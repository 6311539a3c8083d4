"""Take words that say nothing of the item out of titles: promotions by a phrase list, stuttered words and phrases.

Knows words only: nothing of rows or tasks. A title is never emptied: where nothing that names an item would be left,
the words stay.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from relevance.errors import InputError
from relevance.languages import UNKNOWN_LANGUAGE, normalize_language

PACKAGED_PROMOTIONS = Path(__file__).parent / "promotions.tsv"

# Written without spaces: a phrase is found anywhere in a title.
_UNSPACED_LANGUAGES = frozenset({"ja", "th", "zh", "lo", "km", "my"})

# A doubled word is a word of its own there (Indonesian `anak anak`, children).
REDUPLICATING_LANGUAGES = frozenset({"id", "ms", "jv", "su", "tl", "vi", "th", "km", "lo", "zh", "ja", "hi", "tr"})

_YEAR = "{year}"
_YEAR_PATTERN = r"20[0-3]\d"
_IS_YEAR = re.compile(_YEAR_PATTERN)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}|【\s*】|「\s*」|〔\s*〕|《\s*》")
_SHORTEST_DOUBLED = 4  # `pom pom`, `yo yo` are things
_LONGEST_PHRASE = 4  # words of a repeated phrase


@dataclass(frozen=True, slots=True)
class Promotions:
    """Promotional phrases: those of whole words by their first word, longest first, and those found anywhere."""

    spaced: dict[str, tuple[tuple[str, ...], ...]]
    unspaced: re.Pattern[str]

    @classmethod
    def load(cls, *files: Path) -> Self:
        """Read files of `language<tab>phrase` lines. InputError names every line that is not of this form."""
        words: dict[str, set[tuple[str, ...]]] = {}
        anywhere: set[str] = set()
        for language, phrase in (found for file in files for found in _phrases(file)):
            if language in _UNSPACED_LANGUAGES and not phrase.isascii():
                anywhere.add(re.escape(phrase).replace(re.escape(_YEAR), rf"(?<!\d){_YEAR_PATTERN}"))
            else:
                tokens = tuple(phrase.split())
                words.setdefault(tokens[0], set()).add(tokens)
        by_length = {first: tuple(sorted(found, key=lambda p: (-len(p), p))) for first, found in words.items()}
        pattern = "|".join(sorted(anywhere, key=lambda p: (-len(p), p))) or "(?!)"
        return cls(by_length, re.compile(pattern, re.IGNORECASE))


@functools.lru_cache(maxsize=8)
def load_promotions(more: Path | None = None) -> Promotions:
    """Return the packaged phrases, with those of a file of the user's own behind them."""
    return Promotions.load(*([PACKAGED_PROMOTIONS] if more is None else [PACKAGED_PROMOTIONS, more]))


def without_promotions(title: str, promotions: Promotions) -> tuple[str, Counter[str]]:
    """Return the title without promotional phrases and how often each was found, in the form it has there."""
    found: Counter[str] = Counter()
    words, kept, at = title.split(), [], 0
    while at < len(words):
        length = _match(words, at, promotions)
        if length:
            found[" ".join(_bare(word) for word in words[at : at + length])] += 1
        else:
            kept.append(words[at])
        at += length or 1
    text = " ".join(kept)
    hits = [] if text.isascii() else promotions.unspaced.findall(text)
    if hits:
        found.update(hits)
        text = " ".join(_EMPTY_BRACKETS.sub(" ", promotions.unspaced.sub(" ", text)).split())
    return (text, found) if found and _names_something(text) else (title, Counter())


def without_repeats(title: str, *, doubles: bool = True) -> str:
    """Return the title with words and phrases that follow themselves at once written once.

    A phrase of 2 to 4 words (`Phone Case Phone Case`), three times the same word, and with `doubles` twice the same
    word of four letters or more are folded. What holds a digit or a single letter never is: `4 in. x 4 in. x 6 ft.`
    and `Barb x Barb x Barb` are sizes. Nor are words with punctuation between them: `Heated Jacket (Jacket Only)`.
    """
    words = title.split()
    keys = [word.casefold() for word in words]
    if len(set(keys)) == len(keys):
        return title
    at = 0
    while at < len(words):
        for length in range(min(_LONGEST_PHRASE, (len(words) - at) // 2), 0, -1):
            times = _times(keys, at, length)
            if times > 1 and _is_stutter(keys[at : at + length], times, doubles):
                del words[at + length : at + length * times], keys[at + length : at + length * times]
                break
        at += 1
    return " ".join(words)


def _phrases(file: Path) -> Iterable[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"promotions {file}: {error}; expected a UTF-8 text file") from None
    wrong, found = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        language, tab, phrase = line.partition("\t")
        phrase = " ".join(unicodedata.normalize("NFKC", phrase).casefold().split())
        code = normalize_language(language)
        if not tab or code == UNKNOWN_LANGUAGE or not _names_something(phrase.replace(_YEAR, "")):
            wrong.append(f"line {number} is {line!r}")
        found.append((code, phrase))
    if wrong:
        raise InputError(
            f"promotions {file}: {'; '.join(wrong)}; expected a language code, a tab and a phrase of words"
        )
    return found


def _match(words: list[str], at: int, promotions: Promotions) -> int:
    """Return of how many words the longest phrase is that starts at a word, or 0."""
    first = _bare(words[at])
    starts = promotions.spaced.get(first, ())
    if first.startswith("20") and _IS_YEAR.fullmatch(first):
        starts += promotions.spaced.get(_YEAR, ())
    for phrase in starts:
        following = [_bare(word) for word in words[at : at + len(phrase)]]
        if len(following) == len(phrase) and all(map(_fits, following, phrase)):
            return len(phrase)
    return 0


def _fits(word: str, part: str) -> bool:
    return bool(_IS_YEAR.fullmatch(word)) if part == _YEAR else word == part


@functools.lru_cache(maxsize=1 << 16)
def _bare(word: str) -> str:
    """Return a word as phrases are compared: case folded, without the punctuation about it (a percent sign stays)."""
    if word.isalnum():
        return word.casefold()
    start, end = 0, len(word)
    while start < end and _is_punctuation(word[start]):
        start += 1
    while end > start and _is_punctuation(word[end - 1]):
        end -= 1
    return word[start:end].casefold()


def _is_punctuation(character: str) -> bool:
    return character != "%" and unicodedata.category(character)[0] in "PS"


def _names_something(text: str) -> bool:
    return any(unicodedata.category(character)[0] == "L" for character in text)


def _times(keys: list[str], at: int, length: int) -> int:
    """Return how often the words from `at` on stand there one after the other."""
    times = 1
    while keys[at : at + length] == keys[at + length * times : at + length * (times + 1)]:
        times += 1
    return times


def _is_stutter(phrase: list[str], times: int, doubles: bool) -> bool:
    if not all(len(word) > 1 and not any(map(_is_digit_or_punctuation, word)) for word in phrase):
        return False
    if len(phrase) > 1:
        return any(len(word) >= _SHORTEST_DOUBLED for word in phrase)
    return times > 2 or (doubles and len(phrase[0]) >= _SHORTEST_DOUBLED)


def _is_digit_or_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "NPS"
