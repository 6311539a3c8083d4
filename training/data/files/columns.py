"""The names of columns: which one a user may have meant, and the errors for those that are missing."""

import difflib
import re
from collections.abc import Sequence

from relevance.errors import InputError
from training.data.labels.clicks import CLICKS, IMPRESSIONS
from training.data.rows import listed

QUERY_FIELD = "origin_query"
_LIKELY = {  # words in the names that these columns have in other data sets
    QUERY_FIELD: ("query", "search", "keyword", "term"),
    "category_path": ("categor", "path", "taxonomy", "breadcrumb"),
    "item_title": ("title", "product", "item", "name"),
    "document": ("document", "doc", "passage", "text", "candidate"),
    "label": ("label", "relevan", "grade", "target"),
    "language": ("lang", "locale"),
    CLICKS: ("click",),
    IMPRESSIONS: ("impression", "view", "shown"),
}


def missing_column(path: str, name: str, found: Sequence[str]) -> InputError:
    """Return the error for a column that is missing in the whole file, with the option that names it."""
    return missing_columns(path, [name], found)


def missing_columns(
    path: str, missing: Sequence[str], found: Sequence[str], further: Sequence[tuple[str, str]] = ()
) -> InputError:
    """Return the error for columns that are missing in the whole file, with the options that name them.

    `further` are fields that may be absent, each with the column that is likely to hold it.
    """
    named = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {listed(missing)} are"
    message = f"{path}: {named} missing; columns found: {listed(found)}"
    if any(name not in _LIKELY and name != "id" for name in missing):
        return InputError(f"{message}{meant(missing[0], found)}")
    if found and all(column.startswith('"') and column.endswith('"') for column in found):
        return InputError(f"{message}; the cells are in quotes: give --quotes")
    guesses: dict[str, str | None] = {}
    for name in missing:
        guesses[name] = likely_column(name, [column for column in found if column not in guesses.values()])
    if not any(guesses.values()):
        options = " ".join(column_option("NAME", name) for name in missing)
        if_there = "one of them holds it, name it" if len(missing) == 1 else "some of them hold these, name them"
        return InputError(f"{message}; if {if_there}: {options}")
    guesses |= dict(further)
    likely = listed([guess for guess in guesses.values() if guess])
    options = " ".join(column_option(guess or "NAME", name) for name, guess in guesses.items())
    return InputError(f"{message}; did you mean {likely}? Then give {options}")


def column_option(column: str, name: str) -> str:
    """Return the option, as a shell reads it, that names the column of a field."""
    return f"--column {column}={name}" if re.fullmatch(r"[\w.-]+", column) else f"--column '{column}={name}'"


def likely_column(name: str, found: Sequence[str]) -> str | None:
    """Return the column that is likely to hold a field, by its name; None if there is none."""
    others = [column for column in found if plain_name(column) not in _LIKELY]
    plain = {plain_name(column): column for column in reversed(others)}
    if close := difflib.get_close_matches(name, plain, n=1, cutoff=0.7):
        return plain[close[0]]
    hints = (column for part in _LIKELY.get(name, ()) for key, column in reversed(plain.items()) if part in key)
    return next(hints, None)


def meant(name: str, names: Sequence[str] | frozenset[str]) -> str:
    """Return the question whether a similar name was meant; empty if there is none."""
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def plain_name(name: str) -> str:
    """Return a name without what makes no difference: case, white space, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "_", name.strip().strip("\ufeff").casefold())
