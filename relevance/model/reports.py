"""The reports of a model: pages (HTML) in the folder `reports` of its checkpoint, and of the bundle made of it.

Must not know what a report says. A page of a bundle is a file with a sha256 in the manifest, as all files are.
"""

import re
from collections.abc import Iterable
from pathlib import Path

REPORTS_FOLDER = "reports"
MAX_REPORT_BYTES = 16 * 1024 * 1024
EXPECTED = "letters, digits, dots, hyphens and underscores that end in .html, at most 100"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}\.html")


def report_files(folder: Path) -> list[str]:
    """Return the pages in the folder's `reports`, as `reports/data.html`; nothing else in there is a report."""
    return sorted(f"{REPORTS_FOLDER}/{path.name}" for path in (folder / REPORTS_FOLDER).glob("*.html"))


def is_report(file: str) -> bool:
    """Return whether a file of a bundle is a page of `reports`, by its name: `reports/`, then what EXPECTED says."""
    folder, _, name = file.partition("/")
    return folder == REPORTS_FOLDER and _NAME.fullmatch(name) is not None


def report_names(files: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the reports among a bundle's files, without their folder."""
    return tuple(sorted(file.partition("/")[2] for file in files if is_report(file)))
