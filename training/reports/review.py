"""The review list of self-validation: a page and a CSV of flagged rows, in either of which a person decides.

The page is one file: it loads nothing, sends nothing, and runs one script, which its policy names by hash.
"""

import base64
import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from relevance.errors import ConfigError, InputError
from relevance.files import whole_file
from relevance.formatting import find_separator, path_levels
from relevance.tasks import LabeledPair, Task
from training.reports.template import render_page
from training.selfvalidation.judging import Suggestion
from training.selfvalidation.stage import FlaggedRow

COLUMNS = ("id", "label", "suggestion", "decision", "score", "flags", "category", "language", "query", "candidate")
PAGE_ROWS = 2000
ALL_ITEMS = "all items"
# A spreadsheet takes a cell that begins so for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Group:
    """Flagged rows of one category (QC: its top level) and language, worst first."""

    category: str
    language: str
    rows: tuple[FlaggedRow, ...]

    @property
    def name(self) -> str:
        """The heading of the group on the page."""
        return f"{self.category}, {self.language}"


def write_review(
    path: Path, flagged: Sequence[FlaggedRow], task: Task, title: str, *, page_rows: int = PAGE_ROWS
) -> Path:
    """Write the page to `path` (.html) and the CSV of all flagged rows beside it; return the CSV's path.

    The page holds the worst `page_rows` rows, since browsers grow slow with many more. Each file appears whole or not
    at all.
    """
    check_review_path(path)
    table = path.with_suffix(".csv")
    # The mark at the start lets spreadsheets see that the file is UTF-8.
    with (
        whole_file(table) as beside,
        beside.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(each, group) for group in _groups(flagged, task) for each in group.rows)
    some = sorted(flagged, key=lambda each: -each.doubt)[:page_rows]
    with whole_file(path) as beside:
        page = _page(_groups(some, task), title, len(flagged))
        beside.write_bytes(page.encode("utf-8", errors="backslashreplace"))
    return table


def check_review_path(path: Path) -> None:
    """Raise ConfigError where the path of the page does not end in .html."""
    if path.suffix != ".html":
        raise ConfigError(f"review {path}: expected a name that ends in .html; the CSV is put beside it")


def check_unique_ids(rows: Sequence[LabeledPair]) -> None:
    """Raise InputError where several rows have the same id: decisions name rows by their id."""
    repeated = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if repeated:
        raise InputError(
            f"{len(repeated)} ids stand on several rows (first: {repeated[0]!r}); expected an id of its own for each "
            "row, since a review names rows by id"
        )


def _groups(flagged: Sequence[FlaggedRow], task: Task) -> list[Group]:
    """Return the rows by category and language, the group with the most rows first, the worst row of each first."""
    separator = find_separator(each.row.pair.candidate for each in flagged)
    found: defaultdict[tuple[str, str], list[FlaggedRow]] = defaultdict(list)
    for each in sorted(flagged, key=lambda each: -each.doubt):
        levels = path_levels(each.row.pair.candidate, separator) if task is Task.QC else []
        found[levels[0] if levels else ALL_ITEMS, each.row.pair.language].append(each)
    order = sorted(found, key=lambda name: (-len(found[name]), name))
    return [Group(*name, tuple(found[name])) for name in order]


def _page(groups: Sequence[Group], title: str, total: int) -> str:
    """Return the page; `total` is the number of all flagged rows, on the page or not."""
    script = files("training.reports").joinpath("templates", "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = [found.row for group in groups for found in group.rows]
    # The browser keeps the decisions of each review apart by a hash of its rows.
    identity = repr(sorted((row.id, row.label, row.pair.query) for row in rows)).encode(errors="backslashreplace")
    return render_page(
        "review.html",
        title=title,
        script={"text": Markup(script), "hash": f"sha256-{digest}"},
        review=hashlib.sha256(identity).hexdigest()[:16],
        groups=groups,
        shown=len(rows),
        total=total,
        choices=list(Suggestion),
    )


def _cells(each: FlaggedRow, group: Group) -> list[str]:
    row = each.row
    decided = [row.id, str(row.label), each.suggestion.value, "", f"{each.score:.4f}", " ".join(each.flags)]
    texts = [group.category, group.language, row.pair.query, row.pair.candidate]
    return decided + [f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts]
