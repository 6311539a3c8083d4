"""Charts as SVG, drawn by matplotlib: bars, histograms and intervals.

Knows numbers and labels, nothing of what they mean. Labels may come straight from a data file: they are taken
literally (no TeX) and escaped. Texts stay texts, so a screen reader reads them and a page sets their font. Every chart
has a title; its numbers belong in a table beside it.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, RULE, SERIES = "#1c2430", "#566173", "#d8dde5", ("#2f6fb0", "#c9d3df")
INTERVAL_COLOURS = ("#222222", "#1f6fb4", "#c2570c")
_PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)"} | {
    colour: f"var(--s{place})" for place, colour in enumerate(SERIES)
}
_LONGEST_LABEL = 16
_MOST_TICKS = 10
_STYLE = {
    "axes.facecolor": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 13,
    "svg.fonttype": "none",
    "svg.hashsalt": "relevance",
    "text.parse_math": False,
}
_MOST_POINTS = 30  # with a dot for each
_WIDER = 16  # points that the numbers beside an axis grow by on a narrow screen, where a page enlarges them
_ABOVE = {"textcoords": "offset points", "ha": "right", "color": SOFT}
_UNDER = {"textcoords": "offset points", "ha": "left", "va": "top", "color": SOFT}
_OVER = {"textcoords": "offset points", "ha": "left", "color": INK, "annotation_clip": False}
_BESIDE = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, the values stacked in it from left to right, and a note at its end."""

    label: str
    values: tuple[float, ...]
    note: str


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One row of an interval chart: two lines of label, and (low, value, high) by series; a series may be absent."""

    label: str
    below: str
    intervals: dict[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval; `low` and `high` are the value where it has none."""

    label: str
    low: float
    value: float
    high: float

    @classmethod
    def of(cls, label: str, value: float, ends: tuple[float | None, float | None]) -> "Dot":
        """Return the dot of a value whose interval may be missing."""
        low, high = (value if end is None else end for end in ends)
        return cls(label, low, value, high)


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of a line, and the band around it; without `low` and `high` there is no band."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Plane:
    """What a line chart has beside its curve: names of the axes, and reference lines.

    `level` is a dashed horizontal line with its name, `at` an upright one; `diagonal` draws y = x. `limits` are those
    of both axes; None: those of the points.
    """

    x: str
    y: str
    level: tuple[float, str] | None = None
    at: tuple[float, str] | None = None
    diagonal: bool = False
    limits: tuple[float, float] | None = None


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    from matplotlib import rc_context  # half a second

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of glyphs that only matplotlib's own font lacks, of long labels
        yield


@_drawing()
def bar_chart(title: str, bars: Sequence[Bar], *, limit: float | None = None) -> str:
    """Return horizontal bars for a page, one a row; `limit` is the value that fills the width, else the greatest."""
    figure = _figure(480, 12 + 22 * len(bars))
    axes = figure.add_subplot()
    axes.axis("off")
    axes.set(
        xlim=(0, limit or max((sum(bar.values) for bar in bars), default=0) or 1), ylim=(max(len(bars), 1) - 0.5, -0.5)
    )
    for place, bar in enumerate(bars):
        axes.annotate(_shortened(bar.label), (0, place), (-6, 0), **_BESIDE, ha="right", color=INK)
        start = 0.0
        for value, colour in zip(bar.values, SERIES, strict=False):
            axes.barh(place, value, left=start, height=0.64, color=colour, clip_on=False)
            start += value
        axes.annotate(_plain(bar.note), (start, place), (5, 0), **_BESIDE, color=SOFT)
    return _inline(figure, title)


@_drawing()
def histogram(title: str, counts: Sequence[int], labels: Sequence[str]) -> str:
    """Return upright bars for a page: the greatest count at its bar, and as many labels as there is room for."""
    figure = _figure(480, 190)
    axes = figure.add_subplot()
    axes.bar(range(len(counts)), counts, width=0.8, color=SERIES[0], clip_on=False)
    axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(0, max(counts, default=0) or 1), yticks=[])
    every = -(-len(labels) // _MOST_TICKS) or 1
    axes.set_xticks(range(0, len(labels), every), [_plain(label) for label in labels[::every]])
    axes.tick_params(bottom=False, colors=INK)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    greatest = max(range(len(counts)), key=counts.__getitem__, default=None)
    if greatest is not None:
        place = (greatest, counts[greatest])
        axes.annotate(f"{counts[greatest]:,}", place, (0, 3), textcoords="offset points", ha="center", color=SOFT)
    return _inline(figure, title)


@_drawing()
def dot_chart(title: str, dots: Sequence[Dot], line: float, *, above: bool = False) -> str:
    """Return rows for a page: a dot with its interval in each, and an upright line at `line`.

    With `above`, labels stand above their rows, where long ones have room; the line makes way for them.
    """
    figure = _figure(480, 40 + (44 if above else 24) * len(dots))
    axes = figure.add_subplot()
    for begin, end in [(place - 0.05, place + 0.42) for place in range(len(dots))] if above else [(-0.5, len(dots))]:
        axes.plot([line, line], [begin, end], color=SOFT, linewidth=1, linestyle="dashed")
    for place, dot in enumerate(dots):
        axes.plot([dot.low, dot.high], [place, place], color=SERIES[0], linewidth=2, clip_on=False)
        _point(axes, dot.value, place)
    if above:
        for place, dot in enumerate(dots):
            axes.annotate(_plain(dot.label), (0, place), (0, 8), **_OVER, xycoords=("axes fraction", "data"))
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=5)
    else:
        axes.set_yticks(range(len(dots)), [_shortened(dot.label) for dot in dots])
    axes.set_ylim(max(len(dots), 1) - 0.5, -0.9 if above else -0.5)
    _plain_axes(axes)
    return _inline(figure, title)


@_drawing()
def line_chart(title: str, curve: Curve, plane: Plane) -> str:
    """Return a curve for a page, with a dot at each of its points if they are few."""
    figure = _figure(480, 300)
    axes = figure.add_subplot()
    if plane.diagonal:
        axes.axline((0, 0), slope=1, color=SOFT, linewidth=1, linestyle="dashed")
    if curve.low:
        band = [*curve.low, *reversed(curve.high)]  # a polygon: fill_between would refer to a definition
        axes.fill([*curve.x, *reversed(curve.x)], band, color=SERIES[1], linewidth=0)
    axes.plot(curve.x, curve.y, color=SERIES[0], linewidth=2)
    for point in zip(curve.x, curve.y, strict=True) if len(curve.x) <= _MOST_POINTS else ():
        _point(axes, *point)
    if plane.limits:
        axes.set(xlim=plane.limits, ylim=plane.limits)
    if plane.level:
        axes.axhline(plane.level[0], color=SOFT, linewidth=1, linestyle="dashed")
        axes.annotate(plane.level[1], (0, plane.level[0]), (4, -4), **_UNDER, xycoords=("axes fraction", "data"))
    if plane.at:
        axes.axvline(plane.at[0], color=SOFT, linewidth=1, linestyle="dotted")
        axes.annotate(plane.at[1], (plane.at[0], 0), (-4, 4), **_ABOVE, xycoords=("data", "axes fraction"))
    axes.set_xlabel(_plain(plane.x), color=SOFT)
    axes.set_ylabel(_plain(plane.y), color=SOFT, labelpad=_WIDER)
    axes.grid(axis="y", color=RULE)
    _plain_axes(axes)
    return _inline(figure, title)


@_drawing()
def interval_chart(title: str, rows: Sequence[IntervalRow], series: Sequence[str]) -> str:
    """Return a file of its own: a line a row and series from low to high with a dot at the value, and a line at 0."""
    figure = _figure(820, 110 + 54 * len(rows))
    axes = figure.add_subplot()
    axes.set_title(_plain(title), loc="left", fontsize=13, fontweight="bold", x=0, pad=12)
    axes.axvline(0, color="#888888", linewidth=1.2)
    for place, row in enumerate(rows):
        for shift, (name, colour) in enumerate(zip(series, INTERVAL_COLOURS, strict=False)):
            if name in row.intervals:
                low, value, high = row.intervals[name]
                at = place + 0.25 * (shift - (len(series) - 1) / 2)
                axes.plot([low, high], [at, at], color=colour, linewidth=2, gid="interval")
                axes.plot([value], [at], "o", color=colour, markersize=7, gid="value")
    axes.set_yticks(range(len(rows)), [f"{_plain(row.label)}\n{_plain(row.below)}" for row in rows])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.4g}" if abs(value) > 1e-9 else "0")
    axes.grid(axis="x", color="#e3e3e3")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = [axes.plot([], [], "o", color=colour, label=_plain(name))[0] for name, colour in _coloured(series)]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(series), frameon=False)
    svg = _svg(figure, "white")
    return svg.replace("<defs>", f"<title>{escape(title)}</title><defs>", 1).replace("<svg ", '<svg role="img" ', 1)


def _point(axes: "Axes", x: float, y: float) -> None:
    """Draw a dot as a line without length: a marker would refer to a definition, which pages leave out."""
    axes.plot([x, x], [y, y], color=SERIES[0], linewidth=8, solid_capstyle="round", clip_on=False)


def _plain_axes(axes: "Axes") -> None:
    axes.grid(axis="x", color=RULE)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=7, colors=INK)
    axes.spines[:].set_visible(False)


def _coloured(series: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(series, INTERVAL_COLOURS, strict=False))


def _figure(width: int, height: int) -> "Figure":
    """Return a figure of so many points, whose parts make room for one another."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), layout="constrained")


def _svg(figure: "Figure", background: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", facecolor=background, metadata=_NO_METADATA)
    return stream.getvalue()


def _inline(figure: "Figure", title: str) -> str:
    """Return a chart as a part of a page: nothing that names an address or an id, colours by the page's style."""
    svg = _svg(figure, "none")
    body = svg[svg.index("<g ") : svg.rindex("</svg>")]
    body = re.sub(r"<defs>.*?</defs>", "", re.sub(r'<g id="[^"<>]*"', "<g", body), flags=re.DOTALL)
    body = re.sub(r' clip-path="url\([^"<>]*"', "", body)  # its definition is gone
    for colour, variable in _PAGE_COLOURS.items():
        body = body.replace(f": {colour}", f": {variable}")
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return f'<svg role="img" viewBox="0 0 {width} {height}"><title>{escape(title)}</title>{body}</svg>'


def _plain(text: str) -> str:
    """Return a text without what cannot be written as UTF-8 or breaks a line."""
    return " ".join(text.encode(errors="replace").decode().split())


def _shortened(label: str) -> str:
    label = _plain(label)
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
