"""Typing faults: slips, missing accents, unusual spaces and character widths.

Works on text alone; knows nothing of shops, queries or labels.
"""

import random
import unicodedata

# Slips of single letters look like this only in alphabets; Hangul blocks, kana and Thai clusters break otherwise.
LATIN_LANGUAGES = frozenset({"en", "es", "fr", "pt", "de", "it", "pl", "vi", "id"})
WIDE_LANGUAGES = frozenset({"ja", "ko"})

_SHORTEST = 4  # letters: a slip in a shorter word often makes another word
_NBSP = "\u00a0"
_IDEOGRAPHIC_SPACE = "\u3000"
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_UNACCENTED = str.maketrans("łŁđĐøØ", "lLdDoO")  # letters that Unicode does not decompose


def misspell(text: str, rng: random.Random) -> str:
    """Return the text with one slip in one Latin word: neighbours swapped, a letter left out or doubled.

    Words with digits and words under four letters stay as they are; a text that has no other word comes back unchanged.
    """
    words = text.split(" ")
    places = [n for n, word in enumerate(words) if len(word) >= _SHORTEST and _is_latin(word)]
    if not places:
        return text
    place = rng.choice(places)
    words[place] = rng.choice((_swap, _drop, _double))(words[place], rng)
    return " ".join(words)


def without_accents(text: str) -> str:
    """Return Latin text as typed on a keyboard without accents: `café` becomes `cafe`, `đen` becomes `den`."""
    decomposed = unicodedata.normalize("NFD", text.translate(_UNACCENTED))
    return "".join(letter for letter in decomposed if unicodedata.category(letter) != "Mn")


def widen(text: str, language: str, rng: random.Random) -> str:
    """Return ja or ko text with what an input method leaves: NBSP or ideographic spaces, or full-width ASCII."""
    if language == "ja" and rng.random() < 0.6:
        return text.translate(_FULL_WIDTH).replace(" ", _IDEOGRAPHIC_SPACE)
    return text.replace(" ", _NBSP)


def _is_latin(word: str) -> bool:
    return word.isalpha() and all(unicodedata.name(letter, "").startswith("LATIN") for letter in word)


def _swap(word: str, rng: random.Random) -> str:
    # The first letter is seldom wrong; two equal neighbours would change nothing.
    places = [n for n in range(1, len(word) - 1) if word[n] != word[n + 1]]
    if not places:
        return _drop(word, rng)
    n = rng.choice(places)
    return f"{word[:n]}{word[n + 1]}{word[n]}{word[n + 2 :]}"


def _drop(word: str, rng: random.Random) -> str:
    n = rng.randrange(1, len(word))
    return word[:n] + word[n + 1 :]


def _double(word: str, rng: random.Random) -> str:
    n = rng.randrange(1, len(word))
    return word[:n] + word[n] + word[n:]
