"""The review page: one self-contained HTML file in which a person decides on flagged rows and saves a CSV.

Every text is escaped here; nothing else writes data into the page. It loads nothing and sends nothing.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from training.selfvalidation.groups import Group
from training.selfvalidation.judging import Suggestion
from training.selfvalidation.stage import FlaggedRow

COLUMNS = ("query", "candidate", "label", "score", "flags", "suggestion", "decision")


def review_page(groups: Sequence[Group], title: str, total: int) -> str:
    """Return the page for groups of flagged rows; `total` is the number of all flagged rows, on the page or not."""
    template = files("training.selfvalidation").joinpath("page.html").read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = sum(len(group.rows) for group in groups)
    intro = f"{shown:,} of {total:,} flagged rows, worst first in each group; "
    intro += "the score is the probability of label 1 by models that never saw the row or its query."
    return Template(template).substitute(
        script_hash=f"sha256-{digest}",
        review=_identity(groups),
        title=escape(title),
        intro=escape(intro),
        contents="".join(_link(at, group) for at, group in enumerate(groups)),
        groups="".join(_section(at, group) for at, group in enumerate(groups)),
    )


def _identity(groups: Sequence[Group]) -> str:
    """Return what tells this review from others in the same browser: a hash of its rows."""
    rows = sorted((found.row.id, found.row.label, found.row.pair.query) for group in groups for found in group.rows)
    return hashlib.sha256(repr(rows).encode(errors="backslashreplace")).hexdigest()[:16]


def _link(at: int, group: Group) -> str:
    return f'<a href="#g{at}"><bdi>{escape(group.name)}</bdi> ({len(group.rows):,})</a>'


def _section(at: int, group: Group) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(_row(found) for found in group.rows)
    return (
        f'<section aria-labelledby="g{at}"><h2 id="g{at}"><bdi>{escape(group.name)}</bdi></h2><div class="scroll">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _row(found: FlaggedRow) -> str:
    pair, label = found.row.pair, found.row.label
    texts = "".join(f'<td class="text" dir="auto">{escape(text)}</td>' for text in (pair.query, pair.candidate))
    facts = (str(label), f"{found.score:.3f}", ", ".join(found.flags), found.suggestion.value)
    cells = "".join(f"<td>{escape(fact)}</td>" for fact in facts)
    options = "".join(f'<option value="{choice.value}">{choice.value}</option>' for choice in Suggestion)
    name = escape(found.row.id)
    data = f'data-id="{name}" data-label="{label}" data-suggestion="{found.suggestion.value}"'
    select = f'<select {data} aria-label="decision on row {name}"><option value=""></option>{options}</select>'
    return f"<tr>{texts}{cells}<td>{select}</td></tr>"
