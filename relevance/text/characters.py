"""Normalises the characters of a text without losing a letter of any script: entities, spaces, controls, NFKC.

Knows characters only; knows no rows, tasks or languages. Part of the format (`relevance.text.formatting`), so training
and serving share it; `data clean` uses it too.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Callable
from html.entities import html5

# NFKC would turn a full-width comma within a level's name into one that separates levels.
COMMA_FORMS = "，﹐︐"

# The whole of `&name;`: without the semicolon, `&sect` would be replaced in `&section`.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")

# NBSP and similar, the ideographic space, line and paragraph separators: all that `str.split` treats as white space.
_OTHER_SPACE = re.compile(r"[^\S ]")

# The other control characters: C0, DEL and C1.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")

# Soft hyphen, directional marks, invisible operators, BOM, interlinear marks and tags: no reader sees them.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SPACE_MARK, _NON_JOINER, _JOINER = "\u200b", "\u200c", "\u200d"

# In all other scripts, spelling may need ZWNJ or ZWJ (Persian plurals, Indic conjuncts). ZWSP marks the end of a word
# in scripts without spaces. A script is identified by the first word of its characters' Unicode names.
_WITHOUT_JOINERS = {"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "HEBREW", "ETHIOPIC", "THAI", "LAO"}
_WITHOUT_JOINERS |= {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "HALFWIDTH", "FULLWIDTH"}
_WITHOUT_JOINERS |= {"COMBINING", "MODIFIER", "VARIATION", "FEMININE", "MASCULINE", "MICRO", ""}
_UNSPACED = {"THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI", "NEW", "BALINESE", "JAVANESE"}
_REPEATED_MARK = re.compile("([\u200b-\u200d])\\1+")

# NFKC decomposes these in ways that readers and tokenisers of the languages do not expect: Thai and Lao AM, single
# Hangul letters (ㅋㅋ), the signs of inches and seconds.
_KEPT = re.compile("[\u0e33\u0eb3\u2033-\u2037\u3131-\u318e]")
_FRACTION = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞↉])")
_RAISED = re.compile(r"(?<=\d)[⁰¹²³⁴-⁹₀-₉]+")

# NFKC turns these into a space and an accent: `l´eau` would become two words.
_SPACED_BY_NFKC = re.compile(
    "[\u00a8\u00af\u00b4\u00b8\u02d8-\u02dd\u037a\u0384-\u0385\u1fbd\u1fbf-\u1fc1\u1fcd-\u1fcf\u1fdd-\u1fdf\u1fed-\u1fee"
    "\u1ffd-\u1ffe\u2017\u203e\u309b-\u309c\ufc5e-\ufc63\ufe49-\ufe4c\ufe70\ufe72\ufe74\ufe76\ufe78\ufe7a\ufe7c\ufe7e\uffe3]"
)
_UNKEPT = re.compile("|".join(each.pattern for each in (_KEPT, _RAISED, _SPACED_BY_NFKC)))

MAX_ROUNDS = 8  # of nested entities: bounds the time for a hostile text
_LONGEST_ENTITY = 34

STEPS = ("entities", "other_spaces", "controls", "invisible", "nfkc", "spaces")


def normalize(text: str, keep: str = "") -> tuple[str, frozenset[str]]:
    """Return the normalised text and the names of the STEPS that changed it.

    NFKC does not change the characters in `keep`. The steps repeat until nothing changes, since an entity may hold
    another one and NFKC may make one (`＆amp；`); so the function is idempotent. A text that would become empty stays.
    """
    if _is_normal(text):
        return text, frozenset()  # most texts
    found: set[str] = set()
    result = text
    for _ in range(MAX_ROUNDS):
        before = result
        for name, step in _steps(keep):
            after = step(result)
            if after != result:
                found.add(name)
            result = after
        if result == before or _is_normal(result):
            break
    return (result, frozenset(found)) if result else (text, frozenset())


def _is_normal(text: str) -> bool:
    """Return whether no step can change a text: printable characters, single spaces, NFKC, no entity."""
    return (
        text.isprintable()
        and ("&" not in text or ";" not in text)
        and "  " not in text
        and text[:1] != " " != text[-1:]
        and (text.isascii() or unicodedata.is_normalized("NFKC", text))
    )


@functools.cache
def _steps(keep: str) -> tuple[tuple[str, Callable[[str], str]], ...]:
    actions = (_entities, _plain_spaces, _no_controls, _no_invisible, lambda text: _nfkc(text, keep), _folded)
    return tuple(zip(STEPS, actions, strict=True))


def _entities(text: str) -> str:
    """Replace HTML entities by their characters: `&amp;`, `&#39;`, `&quot;`. Unknown names stay.

    One pass from left to right. The result of an entity may begin or end another one (`&amp;amp;`).
    """
    if "&" not in text or ";" not in text:
        return text
    out: list[str] = []
    for character in text:
        out.append(character)
        while out and out[-1] == ";":
            tail = "".join(out[-_LONGEST_ENTITY:])
            at = tail.rfind("&")
            decoded = _character(tail[at:]) if at >= 0 and _ENTITY.fullmatch(tail, at) else tail[at:]
            if at < 0 or decoded == tail[at:]:
                break
            del out[at - len(tail) :]
            out.extend(decoded)
    return "".join(out)


def _character(entity: str) -> str:
    """Return the characters of an entity. An unknown or empty one stays."""
    return (html.unescape(entity) or entity) if entity[1] == "#" or entity[1:] in html5 else entity


def _plain_spaces(text: str) -> str:
    return _OTHER_SPACE.sub(" ", text)


def _no_controls(text: str) -> str:
    return _CONTROL.sub("", text)


def _no_invisible(text: str) -> str:
    return text if text.isascii() else _INVISIBLE.sub(_unless_needed, _REPEATED_MARK.sub(r"\1", text))


def _unless_needed(found: re.Match[str]) -> str:
    """Keep a joiner that spelling may need or that joins emoji; keep ZWSP between letters of scripts without spaces."""
    character, text, at = found.group(), found.string, found.start()
    before, after = text[max(at - 1, 0) : at], text[at + 1 : at + 2]
    if character == _JOINER and (_may_join(before) or (_is_emoji(before) and _is_emoji(after))):
        return character
    if character == _NON_JOINER and _may_join(before) and _may_join(after):
        return character
    if character == _SPACE_MARK and {_script_word(before), _script_word(after)} <= _UNSPACED:
        return character
    return ""


def _may_join(character: str) -> bool:
    return _script_word(character) not in _WITHOUT_JOINERS


def _script_word(character: str) -> str:
    """Return the first word of the Unicode name of a letter or mark; empty for other characters."""
    if not character or unicodedata.category(character)[0] not in "LM":
        return ""
    return unicodedata.name(character, "").partition(" ")[0]


def _is_emoji(character: str) -> bool:
    return bool(character) and (unicodedata.category(character) in ("So", "Sk") or character == "\ufe0f")


def _nfkc(text: str, keep: str) -> str:
    """Apply NFKC (full width, ligatures, ㎜), except if that would change the meaning or the spelling.

    `1½` becomes `1 1/2`, not `11/2`. `10²` stays. A spacing accent (`l´eau`) does not become a space and an accent.
    Thai and Lao AM and single Hangul letters stay whole.
    """
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return text
    text = _FRACTION.sub(" ", text)
    parts, start = [], 0
    kept = re.compile(f"{_UNKEPT.pattern}|[{re.escape(keep)}]") if keep else _UNKEPT
    for found in kept.finditer(text):
        parts += [unicodedata.normalize("NFKC", text[start : found.start()]), found.group()]
        start = found.end()
    parts.append(unicodedata.normalize("NFKC", text[start:]))
    return "".join(parts).replace("\u2044", "/")


def _folded(text: str) -> str:
    """Trim, and replace each run of spaces by one."""
    return " ".join(text.split())
