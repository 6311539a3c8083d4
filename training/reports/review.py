"""The review list of self-validation: a page and a CSV of flagged rows, in either of which people decide.

The page is one file: it loads nothing, sends nothing, and runs one script, which its policy names by hash.
"""

import base64
import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from relevance.errors import ConfigError, InputError
from relevance.storage.files import whole_file
from relevance.tasks import LabeledPair, Task
from relevance.text.formatting import find_separator, path_levels
from training.data.stored.buckets import RepeatedKeys
from training.data.stored.rows import ids_of
from training.reports.template import render_page
from training.selfvalidation.grounds import reasons
from training.selfvalidation.judging import Suggestion
from training.selfvalidation.stage import FlaggedRow

COLUMNS = ("id", "label", "suggestion", "decision", "score", "threshold", "flags", "category", "language")
COLUMNS += ("query", "candidate")
PAGE_ROWS = 2000
ALL_ITEMS = "all items"
# A spreadsheet takes a cell that begins so for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Item:
    """A flagged row on the list: its category (QC: the top level), why it is flagged, and the rows most like it."""

    found: FlaggedRow
    category: str
    near: Sequence[LabeledPair] = ()

    @property
    def reasons(self) -> list[str]:
        """The reasons for its flags, a sentence each."""
        return reasons(self.found.row.label, self.found.score, self.found.grounds)


def write_review(
    path: Path,
    flagged: Sequence[FlaggedRow],
    task: Task,
    title: str,
    *,
    near: Mapping[str, Sequence[LabeledPair]] | None = None,
    page_rows: int = PAGE_ROWS,
) -> Path:
    """Write the page to `path` (.html) and the CSV of all flagged rows beside it; return the CSV's path.

    `near` has the rows most like a row, by its id. The page holds the worst `page_rows` rows, since browsers grow slow
    with many more. Each file appears whole or not at all.
    """
    check_review_path(path)
    table = path.with_suffix(".csv")
    items = _items(flagged, task, near or {})
    # The mark at the start lets spreadsheets see that the file is UTF-8.
    with (
        whole_file(table) as beside,
        beside.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(map(_cells, items))
    with whole_file(path) as beside:
        page = _page(items[:page_rows], title, len(items))
        beside.write_bytes(page.encode("utf-8", errors="backslashreplace"))
    return table


def check_review_path(path: Path) -> None:
    """Raise ConfigError where the path of the page does not end in .html."""
    if path.suffix != ".html":
        raise ConfigError(f"review {path}: expected a name that ends in .html; the CSV is put beside it")


def check_unique_ids(rows: Iterable[LabeledPair]) -> None:
    """Raise InputError where several rows have the same id: decisions name rows by their id."""
    ids = RepeatedKeys()
    for name in ids_of(rows):
        ids.add(name)
    if repeated := ids.found():
        raise InputError(
            f"{len(repeated)} ids stand on several rows (first: {repeated[0]!r}); expected an id of its own for each "
            "row, since a review names rows by id"
        )


def _items(flagged: Sequence[FlaggedRow], task: Task, near: Mapping[str, Sequence[LabeledPair]]) -> list[Item]:
    """Return the rows with their categories, the worst first."""
    separator = find_separator(each.row.pair.candidate for each in flagged)
    found = []
    for each in sorted(flagged, key=lambda each: -each.doubt):
        levels = path_levels(each.row.pair.candidate, separator) if task is Task.QC else []
        found.append(Item(each, levels[0] if levels else ALL_ITEMS, near.get(each.row.id, ())))
    return found


def _page(items: Sequence[Item], title: str, total: int) -> str:
    """Return the page; `total` is the number of all flagged rows, on the page or not."""
    script = files("training.reports").joinpath("templates", "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = [item.found.row for item in items]
    # The browser keeps the decisions of each review apart by a hash of its rows.
    identity = repr(sorted((row.id, row.label, row.pair.query) for row in rows)).encode(errors="backslashreplace")
    return render_page(
        "review.html",
        title=title,
        script={"text": Markup(script), "hash": f"sha256-{digest}"},
        review=hashlib.sha256(identity).hexdigest()[:16],
        items=items,
        total=total,
        categories=Counter(item.category for item in items).most_common(),
        languages=Counter(row.pair.language for row in rows).most_common(),
        suggestions=Counter(item.found.suggestion.value for item in items).most_common(),
        choices=list(Suggestion),
    )


def _cells(item: Item) -> list[str]:
    each, row = item.found, item.found.row
    decided = [row.id, str(row.label), each.suggestion.value, "", f"{each.score:.4f}"]
    decided += [f"{each.grounds.threshold:.4f}", " ".join(each.flags)]
    texts = [item.category, row.pair.language, row.pair.query, row.pair.candidate]
    return decided + [f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts]
