"""The review list on disk: a page and a CSV of flagged rows, either of which a person edits."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from relevance.errors import ConfigError, InputError
from relevance.files import whole_file
from relevance.tasks import LabeledPair, Task
from training.selfvalidation.groups import Group, grouped
from training.selfvalidation.page import review_page
from training.selfvalidation.stage import FlaggedRow

COLUMNS = ("id", "label", "suggestion", "decision", "score", "flags", "category", "language", "query", "candidate")
PAGE_ROWS = 2000
# A spreadsheet takes a cell that begins so for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_review(
    path: Path, flagged: Sequence[FlaggedRow], task: Task, title: str, *, page_rows: int = PAGE_ROWS
) -> Path:
    """Write the page to `path` (.html) and the CSV of all flagged rows beside it; return the CSV's path.

    The page holds the worst `page_rows` rows, since browsers grow slow with many more. Each file appears whole or not
    at all.
    """
    check_review_path(path)
    table = path.with_suffix(".csv")
    some = sorted(flagged, key=lambda each: -each.doubt)[:page_rows]
    # The mark at the start lets spreadsheets see that the file is UTF-8.
    with (
        whole_file(table) as beside,
        beside.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(each, group) for group in grouped(flagged, task) for each in group.rows)
    with whole_file(path) as beside:
        page = review_page(grouped(some, task), title, len(flagged))
        beside.write_bytes(page.encode("utf-8", errors="backslashreplace"))
    return table


def check_review_path(path: Path) -> None:
    """Raise ConfigError where the path of the page does not end in .html."""
    if path.suffix != ".html":
        raise ConfigError(f"review {path}: expected a name that ends in .html; the CSV is put beside it")


def check_unique_ids(rows: Sequence[LabeledPair]) -> None:
    """Raise InputError where an id stands on several rows: decisions name rows by their id."""
    repeated = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if repeated:
        raise InputError(
            f"{len(repeated)} ids stand on several rows (first: {repeated[0]!r}); expected an id of its own for each "
            "row, since a review names rows by id"
        )


def _cells(each: FlaggedRow, group: Group) -> list[str]:
    row = each.row
    decided = [row.id, str(row.label), each.suggestion.value, "", f"{each.score:.4f}", " ".join(each.flags)]
    texts = [group.category, group.language, row.pair.query, row.pair.candidate]
    return decided + [f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts]
