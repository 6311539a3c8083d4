"""What is known of each language (languages.tsv), and the spellings of units of measure (units.txt)."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its English name and its FLORES-200 code, as NLLB uses it ("" where unknown), and its scripts."""

    name: str
    flores: str
    scripts: frozenset[str]


_UNKNOWN = Language("", "", frozenset())


def language(code: str) -> Language:
    """Return what is known of a language."""
    return languages().get(code, _UNKNOWN)


@functools.cache
def languages() -> dict[str, Language]:
    """Return all known languages by code."""
    with (_FOLDER / "languages.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["code"]: Language(row["name"], row["flores"], frozenset(row["scripts"].split())) for row in rows}


@functools.cache
def unit_spellings() -> dict[str, frozenset[str]]:
    """Return all spellings of a unit, over languages as shop queries have them, by each of them.

    A spelling of two units (`karat`) has those of both.
    """
    found: dict[str, frozenset[str]] = {}
    for line in (_FOLDER / "units.txt").read_text(encoding="utf-8").splitlines():
        spellings = frozenset(line.split("|"))
        found |= {each: spellings | found.get(each, spellings) for each in spellings}
    return found
