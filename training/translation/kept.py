"""What a translation must keep of its source: digits, units, model numbers and brand-like words.

Each check returns the first thing that is lost, or None. They compare folded texts (NFKC, digits of all scripts as
ASCII, lower case). Rules by hand, judged on real queries (docs/log.md); none of them comes from a paper.
"""

import difflib
import re
import unicodedata
from collections import Counter

from training.scripts import LATIN, language_scripts

# Spellings of units over languages. A unit behind a number must come back in one of its spellings.
_UNITS = [
    "mm|millimeter|millimetre|milímetros|millimètres|milimetry|ملم|مم|ミリ|มม|밀리",
    "cm|centimeter|centimetre|centímetros|zentimeter|centimetri|سم|センチ|ซม|센치|센티",
    "kg|kilo|kilos|kilogramm|kilogram|كجم|كغ|كغم|كيلو|キロ|กก|킬로",
    "ml|milliliter|millilitre|mililitros|مل|ミリリットル|มล",
    "l|liter|litre|litres|litros|litro|litri|litrów|litry|لتر|リットル|ลิตร|리터",
    "g|gr|gramm|gramm|gramos|grammes|grammi|gramów|غرام|جرام|グラム|กรัม|그램",
    "ft|feet|foot|fuß|fuss|pieds|pied|pies|pie|piedi|stóp|stopy|pés|قدم|أقدام|フィート|フート|ฟุต|피트",
    "in|inch|inches|zoll|pouces|pouce|po|pulgadas|pulgada|pollici|cali|calowy|calowa|calowe|polegadas|polegada|بوصة|إنش|انش|インチ|นิ้ว|인치|型",
    "v|volt|volts|voltios|فولت|ボルト|โวลต์|볼트",
    "w|watt|watts|vatios|watów|واط|وات|ワット|วัตต์|와트",
    "mah|مللي أمبير|ملي أمبير|مللي امبير|ミリアンペア",
    "gb|go|giga|gigabyte|جيجا|جيجابايت|غيغابايت|ギガ",
    "tb|to|terabyte|تيرا|تيرابايت|テラ",
    "oz|ounce|ounces|unze|unzen|onces|onzas|once|uncji|uncje|onças|أونصة|اونصة|オンス|온스",
    "ct|carat|carats|karat|quilates|quilate|quilates|carati|karatów|karaty|قيراط|カラット|캐럿",
    "k|kt|karat|karats|quilates|carats|carati|karatów|قيراط|عيار|金|กะรัต|캐럿",
    "lb|lbs|pound|pounds|pfund|livres|libras|libbre|funtów|funty|رطل|باوند|ポンド|파운드",
]
_SPELLINGS = {spelling: frozenset(line.split("|")) for line in _UNITS for spelling in line.split("|")}
_NO_CODE = frozenset({"x", "st", "nd", "rd", "th"})  # 5x3 and ordinals are numbers, not model numbers
_MEASURE = re.compile(r"\d\s*([^\W\d_]+)")
_DIGITS = re.compile(r"\d+")
_CODE = re.compile(r"[a-z0-9]+(?:[-_/.][a-z0-9]+)*")
_ASCII_WORD = re.compile(r"[A-Za-z]{3,}")
_MARKED_WORD = re.compile(r"\b(?=\w*[a-z]?[A-Z]\w*[A-Z]|[a-z]+[A-Z])[A-Za-z]{3,}\b")
_ALIKE = 0.75  # mended spellings of a brand: `milwaukeee` and `milwaukee`


def folded(text: str) -> str:
    """Return the text in NFKC and lower case, digits of all scripts as ASCII digits."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text)


def lost_digits(source: str, translation: str) -> str | None:
    """Return what differs in the numbers, added ones too, or None. Order and grouping of digits make no difference."""
    before, after = (_DIGITS.findall(folded(text)) for text in (source, translation))
    if "".join(sorted("".join(before))) == "".join(sorted("".join(after))):
        return None
    changed = (Counter(before) - Counter(after)) or (Counter(after) - Counter(before))
    return next(iter(changed), None)


def lost_unit(source: str, translation: str) -> str | None:
    """Return the first unit behind a number that the translation spells in none of the known ways."""
    after = folded(translation)
    words = set(re.findall(r"[^\W\d_]+", after))
    for unit in _MEASURE.findall(folded(source)):
        spellings = _SPELLINGS.get(unit)
        if spellings and not (words & spellings or any(len(s) > 2 and s in after for s in spellings)):
            return unit
    return None


def lost_code(source: str, translation: str) -> str | None:
    """Return the first model number (letters and digits in one word) that the translation lacks."""
    after = _squashed(translation)
    for code in _CODE.findall(folded(source)):
        letters = re.findall(r"[a-z]+", code)
        is_code = letters and any(c.isdigit() for c in code)
        is_measure = all(word in _SPELLINGS or word in _NO_CODE for word in letters)
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
        return _ASCII_WORD.findall(text)
    return [] if text.isupper() else _MARKED_WORD.findall(text)


def _squashed(text: str) -> str:
    return "".join(c for c in folded(text) if c.isascii() and c.isalnum())
