"""What the site does to a page: lists as GitHub reads them, diagrams as pictures, a name for the theme's dialog.

A diagram is a block of Mermaid, which GitHub draws by a script. The site has its picture from `diagrams`, under the
hash of its text; `docs/site/diagrams.py` draws those that are missing.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.hooks")

DIAGRAMS = Path(__file__).parent / "diagrams"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"\s*(```|~~~)")
NAMED_FENCE = re.compile(r"^( *```\w+) [\w -]+$", re.MULTILINE)  # a name beside the language, for tests
SEARCH = 'data-md-component="search" role="dialog" aria-label="Search"'
ITEM = re.compile(r"(\s*)([-*+]|\d+[.)])\s")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page's text for Python-Markdown."""
    drawn = BLOCK.sub(lambda found: _picture(found[1], page.file), markdown)
    return with_blank_lines(NAMED_FENCE.sub(r"\1", drawn))


def on_post_page(output: str, **_: Any) -> str:
    """Return a page's HTML with a name for the dialog of the search, which the theme leaves without one."""
    return output.replace('data-md-component="search" role="dialog"', SEARCH)


def picture_name(text: str) -> str:
    """Return the file name of a diagram's picture."""
    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def with_blank_lines(markdown: str) -> str:
    """Return a text with a blank line before each list that follows a paragraph: GitHub needs none."""
    found: list[str] = []
    inside = False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            inside = not inside
        before = found[-1] if found else ""
        if not inside and ITEM.match(line) and before.strip() and not _in_list(found):
            found.append("")
        found.append(line)
    return "\n".join(found)


def _in_list(lines: list[str]) -> bool:
    """Return whether the last lines, up to a blank one, belong to a list."""
    for line in reversed(lines):
        if not line.strip():
            return False
        if ITEM.match(line):
            return True
    return False


def _picture(text: str, file: Any) -> str:
    name = picture_name(text)
    if not (DIAGRAMS / name).is_file():
        log.warning("%s: no picture %s; expected what `python docs/site/diagrams.py` draws", file.src_uri, name)
    up = "../" * file.src_uri.count("/")
    return f"![Diagram]({up}docs/site/diagrams/{name})"
