"""Bar charts as inline SVG. Knows numbers and labels; colours and fonts come from the page's style sheet.

Every text is escaped here, so that a label may come straight from a data file. A chart has a title for screen readers;
its numbers belong in a table beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 480
_CHARACTER = 9.0  # room for a character, at the larger type of narrow windows
_ROW_HEIGHT = 22
_BAR_HEIGHT = 14
_LONGEST_LABEL = 16
_PLOT_HEIGHT = 150


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, the values stacked in it from left to right, and a note at its end."""

    label: str
    values: tuple[float, ...]
    note: str


def bar_chart(title: str, bars: Sequence[Bar], *, limit: float | None = None) -> str:
    """Return horizontal bars, one a row; `limit` is the value that fills the width (the greatest sum when None)."""
    most = limit or max((sum(bar.values) for bar in bars), default=0) or 1
    left = 10 + _CHARACTER * min(_LONGEST_LABEL, max((_columns(bar.label) for bar in bars), default=0))
    room = _WIDTH - left - 8 - _CHARACTER * max((len(bar.note) for bar in bars), default=0)
    shapes = []
    for place, bar in enumerate(bars):
        top, x = place * _ROW_HEIGHT, left
        middle = top + _ROW_HEIGHT / 2 + 4
        shapes.append(_text(left - 8, middle, _shortened(bar.label), "label end"))
        for series, value in enumerate(bar.values):
            width = room * value / most
            shapes.append(_rectangle(x, top + (_ROW_HEIGHT - _BAR_HEIGHT) / 2, width, _BAR_HEIGHT, series))
            x += width
        shapes.append(_text(x + 6, middle, bar.note, "note"))
    return _svg(title, len(bars) * _ROW_HEIGHT, shapes)


def histogram(title: str, counts: Sequence[int], labels: Sequence[str]) -> str:
    """Return upright bars, with the greatest count at its bar and as many labels below as there is room for."""
    most = max(counts, default=0) or 1
    step = (_WIDTH - 20) / max(len(counts), 1)
    every = max(1, round(max(map(len, labels), default=1) * 12 / step + 0.5))
    shapes = [f'<line class="axis" x1="10" x2="{_WIDTH - 10}" y1="{_PLOT_HEIGHT + 18}" y2="{_PLOT_HEIGHT + 18}"/>']
    for place, (count, label) in enumerate(zip(counts, labels, strict=True)):
        x, height = 10 + place * step, _PLOT_HEIGHT * count / most
        gap = min(2.0, step / 8)
        shapes.append(_rectangle(x + gap, _PLOT_HEIGHT + 18 - height, step - 2 * gap, height, 0))
        if count == most:
            shapes.append(_text(x + step / 2, _PLOT_HEIGHT + 12 - height, f"{count:,}", "note middle"))
        if place % every == 0:
            shapes.append(_text(x + step / 2, _PLOT_HEIGHT + 34, label, "label middle"))
    return _svg(title, _PLOT_HEIGHT + 40, shapes)


def _svg(title: str, height: float, shapes: Sequence[str]) -> str:
    box = f"0 0 {_WIDTH} {height:g}"
    return f'<svg role="img" viewBox="{box}"><title>{escape(title)}</title>{"".join(shapes)}</svg>'


def _rectangle(x: float, y: float, width: float, height: float, series: int) -> str:
    return (
        f'<rect class="s{series}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"/>'
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _columns(label: str) -> int:
    return len(_shortened(label))
