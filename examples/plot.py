"""The plot that `measure.py` writes beside its JSON: nDCG@10 gained over BM25, by the number of candidates scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"model": "#1f6fb4", "blend": "#c2570c"}
NAMES = {"model": "re-ranked", "blend": "blend"}
TITLES = {"shop": "sample shop (synthetic)", "home_depot": "Home Depot's judged titles"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "relevance", "font.size": 12}


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Write an SVG with a plot for each data set; bands are 95 % intervals."""
    studies = [name for name in TITLES if name in result]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5 * len(studies), 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(studies), squeeze=False)[0], studies, strict=True):
            _curves(axes, result[name]["curve"], TITLES[name])
        figure.savefig(path, facecolor="white", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


def _curves(axes: Axes, curve: list[dict[str, Any]], title: str) -> None:
    counts = [row["candidates"] for row in curve]
    for arm, colour in COLOURS.items():
        values, lows, highs = zip(*[[each or 0.0 for each in row[f"{arm}_gain"]] for row in curve], strict=True)
        axes.plot(counts, values, "o-", color=colour, label=NAMES[arm], linewidth=2)
        axes.fill_between(counts, lows, highs, color=colour, alpha=0.15, linewidth=0)
    for row in curve[1:]:
        if "p50_ms" in row:
            axes.annotate(
                f"{row['p50_ms']:.0f} ms",
                (row["candidates"], 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                xytext=(0, 4),
                ha="center",
                fontsize=9,
                color="#566173",
            )
    axes.set(title=title, xlabel="candidates scored (below: median time)", ylabel="nDCG@10 gained over BM25")
    axes.axhline(0, color="#888888", linewidth=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#e3e3e3")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
