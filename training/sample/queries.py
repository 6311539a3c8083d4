"""The wording of queries by shoppers and of titles by sellers.

Knows the words of a shop and their order in each language; knows nothing of labels, splits or files.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.sample.shop import Attribute, Brand, Leaf, Shop
from training.sample.spelling import LATIN_LANGUAGES, WIDE_LANGUAGES, misspell, widen, without_accents

# Nouns come last in these languages; elsewhere an attribute follows its noun, as German shoppers type it too.
_NOUN_LAST = frozenset({"en", "pl", "ja", "ko"})
_PREPOSITIONS = ("for ", "as ", "dla ", "do ", "na ")  # what these open follows its noun in English and Polish too

_ODD_ORDER = 0.1
_TYPO = 0.08
_ACCENTS_LEFT_OUT = 0.1
_CAPITALS = 0.06
_ODD_WIDTH = 0.05

_NUMBERS = ("{count} pcs", "x{count}", "{few} in 1", "v{few}", "{year}", "{length}cm", "{length}mm")
_EXTRAS = (
    *("New Arrival", "Hot Sale", "High Quality", "Free Shipping", "Wholesale", "Dropshipping", "Original", "Upgraded"),
    *("1pc", "2pcs Set", "Lot of 3", "Fashion", "Professional", "Multifunctional"),
)


@dataclass(frozen=True, slots=True)
class Query:
    """The typed text and its meaning: a leaf, or (leaf None) anything that the brand sells."""

    text: str
    language: str
    leaf: Leaf | None
    brand: Brand | None = None
    attributes: tuple[Attribute, ...] = ()
    number: str = ""


class Wording:
    """Composes queries and titles for one shop, with one random generator."""

    def __init__(self, shop: Shop, rng: random.Random) -> None:
        self._rng = rng
        self._sellers = {leaf.path: [b for b in shop.brands if b.sells(leaf)] for leaf in shop.leaves}
        self._suitable = {leaf.path: [a for a in shop.attributes if a.suits(leaf)] for leaf in shop.leaves}
        self._kinds: dict[Callable[[Leaf, str], Query], int] = {
            self.attributed: 34,
            self._numbered: 10,
            self._code_mixed: 12,
            self._branded: 14,
            self._with_model: 8,
        }

    def bare(self, word: str, leaf: Leaf, language: str) -> Query:
        """Return the query that is one of the leaf's words and no more."""
        return Query(word, language, leaf)

    def composed(self, leaf: Leaf, language: str) -> Query:
        """Return a query with the leaf's word and more, with typing faults."""
        (kind,) = self._rng.choices(list(self._kinds), list(self._kinds.values()))
        return self._typed(kind(leaf, language))

    def attributed(self, leaf: Leaf, language: str) -> Query:
        """Return a word of the leaf with one or two attributes that suit it."""
        word = self._word(leaf, language)
        attributes = self._attributes(leaf, self._rng.choice((1, 1, 2)), word, language)
        text = self._arranged(word, attributes, language)
        return Query(text, language, leaf, attributes=attributes)

    def brand_only(self, brand: Brand, language: str) -> Query:
        """Return a brand's name, with or without a model number: it means anything that the brand sells."""
        number = self._model(brand) if self._rng.random() < 0.6 else ""
        text = f"{brand.name} {number}".strip()
        return Query(text if self._rng.random() < 0.3 else text.lower(), language, None, brand, number=number)

    def title(self, leaf: Leaf, language: str, query: Query | None = None) -> str:
        """Return a shop title for an item of the leaf in `language`; one that answers `query`, where it is given."""
        rng = self._rng
        brand = query.brand if query and query.brand else self._brand(leaf)
        attributes = query.attributes if query else ()
        word, other = self._word(leaf, language), self._word(leaf, language)
        more = self._attributes(leaf, rng.choice((0, 1, 2)), word, language)
        more = tuple(a for a in more if a.kind not in {b.kind for b in attributes})
        name = self._arranged(word, (*attributes, *more), language, strict=True)
        if other != word and rng.random() < 0.5:  # sellers stuff titles with further names of the thing
            name = f"{name} {other}"
        ending = query.number if query and query.number else rng.choice(("", self._model(brand), self._number()))
        extra = " ".join(rng.sample(_EXTRAS, rng.choice((0, 1, 2))))
        name = _capitals(name) if language == "en" else name
        shown = brand.name if brand and ((query and query.brand) or rng.random() < 0.8) else ""
        return " ".join(part for part in (shown, name, ending, extra) if part)

    def _numbered(self, leaf: Leaf, language: str) -> Query:
        number = self._number()
        return Query(f"{self._word(leaf, language)} {number}", language, leaf, number=number)

    def _code_mixed(self, leaf: Leaf, language: str) -> Query:
        # A native attribute beside the English noun, as in `黒 phone holder`.
        word = self._word(leaf, "en")
        attributes = self._attributes(leaf, 1, word, language)
        text = self._arranged(word, attributes, language)
        return Query(text, language, leaf, attributes=attributes)

    def _branded(self, leaf: Leaf, language: str) -> Query:
        brand = self._brand(leaf)
        if brand is None:
            return self.attributed(leaf, language)
        name = brand.name if self._rng.random() < 0.4 else brand.name.lower()
        words = [name, self._word(leaf, language)]
        if language not in _NOUN_LAST:
            words.reverse()
        return Query(" ".join(words), language, leaf, brand)

    def _with_model(self, leaf: Leaf, language: str) -> Query:
        brand = self._brand(leaf)
        if brand is None:
            return self._numbered(leaf, language)
        number = self._model(brand)
        return Query(f"{brand.name.lower()} {number} {self._word(leaf, language)}", language, leaf, brand, (), number)

    def _word(self, leaf: Leaf, language: str) -> str:
        words = leaf.words[language]
        return words[0] if self._rng.random() < 0.5 else self._rng.choice(words)

    def _brand(self, leaf: Leaf) -> Brand | None:
        sellers = self._sellers[leaf.path]
        return self._rng.choice(sellers) if sellers else None

    def _attributes(self, leaf: Leaf, count: int, noun: str, language: str) -> tuple[Attribute, ...]:
        """Return at most `count` attributes that suit the leaf and that the noun does not say: no two of one kind."""
        suitable = [a for a in self._suitable[leaf.path] if not _says(noun, a.words[language])]
        suitable = self._rng.sample(suitable, min(len(suitable), 3 * count))
        return tuple({attribute.kind: attribute for attribute in suitable}.values())[:count]

    def _arranged(self, noun: str, attributes: tuple[Attribute, ...], language: str, *, strict: bool = False) -> str:
        """Join a noun and its attributes in the language's order, now and then (unless `strict`) the other way."""
        before: list[str] = []
        after: list[str] = []
        for attribute in attributes:
            if _says(noun, attribute.words[language]):
                continue
            leads = language in _NOUN_LAST and not attribute.words[language].startswith(_PREPOSITIONS)
            if not strict and self._rng.random() < _ODD_ORDER:
                leads = not leads
            (before if leads else after).append(attribute.words[language])
        return " ".join([*before, noun, *after])

    def _number(self) -> str:
        rng = self._rng
        count, few, length = rng.choice((2, 3, 5, 10, 12, 20, 50, 100)), rng.randrange(2, 7), rng.randrange(5, 200)
        return rng.choice(_NUMBERS).format(count=count, few=few, length=length, year=rng.randrange(2021, 2027))

    def _model(self, brand: Brand | None) -> str:
        letters = brand.name[:2].upper() if brand else self._rng.choice("ABCDEFGHKMX")
        return f"{letters}{self._rng.choice(('', '-'))}{self._rng.randrange(100, 9000)}"

    def _typed(self, query: Query) -> Query:
        rng, text = self._rng, query.text
        if query.language in LATIN_LANGUAGES:
            if rng.random() < _ACCENTS_LEFT_OUT:
                text = without_accents(text)
            if rng.random() < _TYPO:
                text = misspell(text, rng)
            if rng.random() < _CAPITALS:
                text = text.upper() if rng.random() < 0.3 else _capitals(text)
        elif query.language in WIDE_LANGUAGES and rng.random() < _ODD_WIDTH:
            text = widen(text, query.language, rng)
        return replace(query, text=text)


def _capitals(text: str) -> str:
    # Not str.title, which makes `women's` into `Women'S` and `USB` into `Usb`.
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _says(noun: str, word: str) -> bool:
    return word.casefold() in noun.casefold()
