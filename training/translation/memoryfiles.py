"""Files of translation memories and term bases, read into units: one text in several languages.

JSON lines: `{"language": "en", "text": "..", "translations": {"de": "..", ..}}`, a unit that is translated out of
`language` only; or `{"de": "..", "en": "..", ..}`, aligned texts that are translated either way. TSV: the header
names the languages, every further line is one aligned unit, empty fields are left out. TMX 1.x: every `tu` is one
aligned unit. All broken lines of a file are named together.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from relevance.errors import InputError
from relevance.languages import UNKNOWN_LANGUAGE, normalize_language
from training.rows import WHOLE_ROW, BadRow, BadRowsError, Problem, ReadReport

FORMATS = (".jsonl", ".ndjson", ".txt", ".tsv", ".tmx")
_XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Elements of a TMX segment whose content is markup of the original document, not text.
_TMX_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
_Found = tuple["Unit | Problem", int, str]


@dataclass(frozen=True, slots=True)
class Unit:
    """One meaning: its text by language. With `origin`, only the text of that language may be translated."""

    texts: dict[str, str]
    origin: str | None = None


def read_units(path: Path, *, skip_bad: bool = False) -> tuple[list[Unit], ReadReport]:
    """Return the units of a file and the report on its lines (of TMX: on its `tu` elements, counted from 1).

    Raises BadRowsError for broken lines unless `skip_bad`, and InputError where the file cannot be read, is of another
    format or holds no unit.
    """
    readers = {".tsv": _tsv, ".tmx": _tmx}
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"translation memory {path}: format {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    units: list[Unit] = []
    bad: list[BadRow] = []
    total = 0
    try:
        for found, number, raw in readers.get(path.suffix.lower(), _json_lines)(path):
            total += 1
            if isinstance(found, Unit):
                units.append(found)
            else:
                bad.append(BadRow(str(path), number, (found,), raw))
    except OSError as error:
        raise InputError(f"translation memory {path}: {error.strerror}; expected a readable file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"translation memory {path}: {error}; expected UTF-8") from None
    report = ReadReport(str(path), total, tuple(bad))
    if bad and not skip_bad:
        raise BadRowsError(report)
    if not units:
        raise InputError(
            f"translation memory {path}: holds no unit that can be used, of {total}; expected at least one"
        )
    return units, report


def _json_lines(path: Path) -> Iterator[_Found]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                yield Problem("not JSON", WHOLE_ROW, line.strip(), f"a JSON object a line ({error})"), number, line
                continue
            yield _unit_of(record), number, line


def _unit_of(record: Any) -> Unit | Problem:
    if not isinstance(record, dict):
        return Problem("not an object", WHOLE_ROW, record, "a JSON object")
    if "translations" not in record:
        # `id` may be a number of the unit as well as Indonesian: what is no text is no translation.
        texts = {name: value for name, value in record.items() if isinstance(value, str) and _is_code(name)}
        return _checked(texts, None)
    for name in ("language", "text"):
        if not isinstance(record.get(name), str) or not record[name].strip():
            return Problem("not text", name, record.get(name), "text")
    if not isinstance(record["translations"], dict) or not _is_code(record["language"]):
        return Problem("not a unit", "translations", record["translations"], "an object: language code -> text")
    origin = normalize_language(record["language"])
    return _checked(record["translations"] | {record["language"]: record["text"]}, origin)


def _checked(texts: dict[str, Any], origin: str | None) -> Unit | Problem:
    """Return the unit, unless a value is no text or fewer than two languages have one."""
    kept = {}
    for code, text in texts.items():
        if not _is_code(code):
            return Problem("not a language", code, text, "a code such as 'de' or 'pt-BR'")
        if not isinstance(text, str):
            return Problem("not text", code, text, "text")
        if text.strip():
            kept.setdefault(normalize_language(code), " ".join(text.split()))
    if len(kept) < 2:
        return Problem("too few languages", WHOLE_ROW, sorted(kept), "texts in two languages or more")
    return Unit(kept, origin)


def _is_code(name: str) -> bool:
    return normalize_language(name) != UNKNOWN_LANGUAGE


def _tsv(path: Path) -> Iterator[_Found]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        header = stream.readline().rstrip("\r\n").split("\t")
        codes = [code.strip() for code in header]
        if len(codes) < 2 or not all(map(_is_code, codes)):
            raise InputError(f"translation memory {path}: header {codes}; expected language codes, as in 'en<TAB>de'")
        for number, line in enumerate(stream, 2):
            fields = line.rstrip("\r\n").split("\t")
            if fields == [""]:
                continue
            if len(fields) != len(codes):
                yield Problem("other columns", WHOLE_ROW, len(fields), f"{len(codes)} columns"), number, line
                continue
            yield _checked(dict(zip(codes, fields, strict=True)), None), number, line


def _tmx(path: Path) -> Iterator[_Found]:
    number = 0
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag != "tu":
                continue
            number += 1
            texts = {
                variant.get(_XML_LANGUAGE) or variant.get("lang") or "": _segment_text(variant.find("seg"))
                for variant in element.iter("tuv")
            }
            yield _checked(dict(texts), None), number, json.dumps(texts, ensure_ascii=False)
            element.clear()
    except ElementTree.ParseError as error:
        raise InputError(f"translation memory {path}: {error}, after {number} units; expected TMX (XML)") from None


def _segment_text(element: ElementTree.Element | None) -> str:
    """Return the text of a segment, without the markup codes that TMX keeps inside it."""
    if element is None:
        return ""
    parts = [element.text or ""]
    for child in element:
        parts += ["" if child.tag in _TMX_CODES else _segment_text(child), child.tail or ""]
    return "".join(parts)
