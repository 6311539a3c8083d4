"""Files of translation memories and term bases, read into units: one text in several languages.

JSON lines: `{"language": "en", "text": "..", "translations": {"de": "..", ..}}`, a unit that is translated out of
`language` only; or `{"de": "..", "en": "..", ..}`, aligned texts that are translated either way. TSV: the header
names the languages, every further line is one aligned unit, empty fields are left out. TMX 1.x: every `tu` is one
aligned unit. All broken lines of a file are reported together. Regions are ignored: `pt-BR` is `pt`. If a unit has two
texts of one language, the first counts. docs/rows.md says when `id` is Indonesian.
"""

import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from relevance.errors import InputError
from relevance.languages import UNKNOWN_LANGUAGE, normalize_language
from training.data.files.lines import lines_of
from training.data.files.parts import COMPRESSIONS, Part
from training.data.rows import WHOLE_ROW, BadRow, BadRowsError, Problem, ReadReport

FORMATS = (".jsonl", ".ndjson", ".txt", ".tsv", ".tmx")
_INDONESIAN = "id"  # or the name of what tells units apart
log = logging.getLogger(__name__)
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
    compression = next((end for end in COMPRESSIONS if path.name.lower().endswith(end)), "")
    suffix = Path(path.name.lower().removesuffix(compression)).suffix
    if suffix not in FORMATS:
        raise InputError(f"translation memory {path}: format {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    read = {".tsv": _tsv, ".tmx": _tmx}.get(suffix, _json_lines)
    found = list(read(Part(path, f"translation memory {path}", "", compression)))
    units = [unit for unit, _, _ in found if isinstance(unit, Unit)]
    bad = [BadRow(str(path), number, (each,), raw) for each, number, raw in found if isinstance(each, Problem)]
    report = ReadReport(str(path), len(found), tuple(bad))
    if bad and not skip_bad:
        raise BadRowsError(report)
    if not units:
        raise InputError(
            f"translation memory {path}: holds no unit that can be used, of {len(found)}; expected at least one"
        )
    return units, report


def units_of(paths: Iterable[Path], *, skip_bad: bool = False) -> list[Unit]:
    """Return the units of all files. Raises as `read_units` does; warns of the lines that `skip_bad` leaves out."""
    units: list[Unit] = []
    for path in paths:
        found, report = read_units(path, skip_bad=skip_bad)
        units += found
        if bad := report.bad_rows:
            log.warning("%s: %d of %d units left out; the first: %s", path, len(bad), report.total, bad[0].lines()[0])
    return units


def _json_lines(part: Part) -> Iterator[_Found]:
    lines = ((number, line, problem) for number, line, problem in lines_of(part) if problem or line.strip())
    records = [(problem or _parsed(line), number, line) for number, line, problem in lines]
    # One rule for the whole file, so that `id` is not a language in one line and a name in the next.
    is_name = any(_names_units(record) for record, _, _ in records)
    if is_name and any(isinstance(r, dict) and "translations" not in r and _INDONESIAN in r for r, _, _ in records):
        log.info("%s: 'id' is read as the name of units; expected 'id-ID' for texts in Indonesian", part.name)
    for record, number, line in records:
        yield record if isinstance(record, Problem) else _unit_of(record, is_name), number, line


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("not JSON", WHOLE_ROW, line.strip(), f"a JSON object a line ({error})")


def _names_units(record: Any) -> bool:
    """Whether the `id` of an aligned record is a name: it is no text, or two languages are there without it."""
    if not isinstance(record, dict) or "translations" in record or _INDONESIAN not in record:
        return False
    others = [name for name in _languages(record) if name != _INDONESIAN and isinstance(record[name], str)]
    return not isinstance(record[_INDONESIAN], str) or len(others) > 1


def _unit_of(record: Any, id_is_name: bool) -> Unit | Problem:
    if not isinstance(record, dict):
        return Problem("not an object", WHOLE_ROW, record, "a JSON object")
    if "translations" not in record:
        names = [name for name in _languages(record) if not (id_is_name and name == _INDONESIAN)]
        return _checked(((name, record[name]) for name in names if isinstance(record[name], str)), None)
    for name in ("language", "text"):
        if not isinstance(record.get(name), str) or not record[name].strip():
            return Problem("not text", name, record.get(name), "text")
    if not isinstance(record["translations"], dict) or not _is_code(record["language"]):
        return Problem("not a unit", "translations", record["translations"], "an object: language code -> text")
    origin = normalize_language(record["language"])
    return _checked([(record["language"], record["text"]), *record["translations"].items()], origin)


def _checked(texts: Iterable[tuple[str, Any]], origin: str | None) -> Unit | Problem:
    """Return the unit, unless a value is no text or fewer than two languages have one."""
    kept: dict[str, str] = {}
    for code, text in texts:
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


def _languages(names: Iterable[str]) -> list[str]:
    """Return the names that are language codes. Those of three letters (`cat`, `hat`) count only among themselves."""
    codes = [name for name in names if _is_code(name)]
    short = [name for name in codes if len(name.strip()) == 2 or not name.strip().isalpha()]
    return short or [name for name in codes if len(normalize_language(name)) == 2]


def _tsv(part: Part) -> Iterator[_Found]:
    lines = lines_of(part)
    first = next(lines, None)
    codes = [code.strip() for code in first.text.rstrip("\r\n").split("\t")] if first else []
    unknown = [code for code in codes if code not in _languages(codes)]
    if unknown or len(codes) < 2:
        what = f"{', '.join(map(repr, unknown))} is no language code" if unknown else "names fewer than two languages"
        raise InputError(
            f"{part.name}: first line {codes}: {what}; expected a header of language codes, as en<TAB>de "
            "(put one above the texts)"
        )
    rows = [(line.text.rstrip("\r\n").split("\t"), line) for line in lines if line.text.strip("\r\n")]
    left_out = _name_column(codes, [fields for fields, _ in rows])
    for fields, (number, text, problem) in rows:
        if problem:
            yield problem, number, text
        elif len(fields) != len(codes):
            yield Problem("other columns", WHOLE_ROW, len(fields), f"{len(codes)} columns"), number, text
        else:
            pairs = zip(codes, fields, strict=True)
            yield _checked((pair for n, pair in enumerate(pairs) if n != left_out), None), number, text


def _name_column(codes: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """Return the index of a column `id` that names units: with two other languages, and a digit in every value."""
    if _INDONESIAN not in codes or len(codes) < 3:
        return None
    column = codes.index(_INDONESIAN)
    values = [fields[column] for fields in rows if len(fields) == len(codes) and fields[column].strip()]
    return column if all(any(map(str.isdigit, value)) for value in values) else None


def _tmx(part: Part) -> Iterator[_Found]:
    number = 0
    try:
        with part.open() as stream:
            for _, element in ElementTree.iterparse(stream):
                if _name(element) != "tu":
                    continue
                number += 1
                texts = [
                    (variant.get(_XML_LANGUAGE) or variant.get("lang") or "", _text(variant.find("{*}seg")))
                    for variant in element.iterfind(".//{*}tuv")
                ]
                yield _checked(texts, None), number, json.dumps(texts, ensure_ascii=False)
                element.clear()
    except ElementTree.ParseError as error:
        raise InputError(f"{part.name}: {error}, after {number} units; expected TMX (XML)") from None


def _name(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _text(element: ElementTree.Element | None) -> str:
    """Return the text of a segment, without the markup codes that TMX keeps inside it; "" where there is none."""
    if element is None:
        return ""
    text = element.text or ""
    for child in element:
        is_code = _name(child) in _TMX_CODES
        text = _joined(text, "" if is_code else _text(child), is_code)
        text = _joined(text, child.tail or "", is_code)
    return text


def _joined(before: str, after: str, at_code: bool) -> str:
    """Join two texts, with a blank if a code was between two words (`red<ph/>shoes`)."""
    return f"{before} {after}" if at_code and _is_word(before[-1:]) and _is_word(after[:1]) else before + after


def _is_word(character: str) -> bool:
    # Chinese and Japanese have no blanks between words.
    return character.isalnum() and unicodedata.east_asian_width(character) not in "WF"
