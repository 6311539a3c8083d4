"""Pieces of the page: tables, figures, sections. Every text is escaped here; nothing else writes data into the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading; `body` is markup."""

    key: str
    heading: str
    body: str

    def html(self) -> str:
        """Return the section as markup."""
        heading = f'<h2 id="{self.key}-heading">{escape(self.heading)}</h2>'
        return f'<section id="{self.key}" aria-labelledby="{self.key}-heading">{heading}{self.body}</section>'


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]], texts: Sequence[int] = (0,)) -> str:
    """Return a table; the columns in `texts` hold words, which wrap and keep their own direction, others numbers."""
    styles = [' class="text"' if at in texts else "" for at in range(len(head))]
    heads = "".join(f'<th scope="col"{style}>{escape(name)}</th>' for name, style in zip(head, styles, strict=True))
    body = "".join(f"<tr>{''.join(_cell(value, at in texts) for at, value in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(name: str, chart: str, numbers: str, series: Sequence[str] = ()) -> str:
    """Return a chart with its file's name, a key to its series and its numbers as a table to open."""
    key = "".join(f'<span class="key"><i class="s{at}"></i>{escape(label)}</span>' for at, label in enumerate(series))
    return (
        f"<figure><figcaption><bdi>{escape(name)}</bdi>{key}</figcaption>{chart}"
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )


def grid(figures: Sequence[str]) -> str:
    """Return figures side by side where there is room, else one below the other."""
    return f'<div class="grid">{"".join(figures)}</div>'


def share(part: float, whole: float) -> str:
    """Return a part as a percentage of the whole."""
    if not whole:
        return "-"
    return f"{100 * part / whole:.1f} %" if not 0 < part / whole < 0.0005 else "< 0.1 %"


def _cell(value: object, is_text: bool) -> str:
    if is_text:
        return f'<td class="text"><bdi>{escape(str(value))}</bdi></td>'
    return f"<td>{escape(f'{value:,}' if isinstance(value, int) else str(value))}</td>"
