"""The plots of the comparison, from its JSON."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "relevance", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402  the backend comes first

COLOURS = {
    **{"relevance": "#0b6e4f", "relevance-int8": "#7cc4a4"},
    **{"litserve": "#c8553d", "infinity": "#2d5d9f", "plain": "#8a8a8a"},
}


def plot_throughput(result: dict[str, Any], out: Path) -> None:
    """Draw the share of the raw session that each server reaches."""
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    names = list(result["share_of_raw"])
    for offset, (work, title) in enumerate((("hundreds", "100 candidates"), ("mixed", "1 to 500 candidates"))):
        shares = [result["share_of_raw"][name][work] for name in names]
        places = [place + 0.4 * offset for place in range(len(names))]
        bars = axes.barh(places, shares, 0.38, label=title, color="#0b6e4f" if offset == 0 else "#8fc1a9")
        axes.bar_label(bars, [f"{share:.2f}" for share in shares], padding=3)
    axes.set_yticks([place + 0.2 for place in range(len(names))], names)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.15 * max(max(each.values()) for each in result["share_of_raw"].values()))
    axes.set_xlabel("pairs a second over those of the raw onnxruntime session")
    axes.legend(frameon=False, loc="center right")
    _save(figure, out)


def plot_open_loop(result: dict[str, Any], out: Path) -> None:
    """Draw p99 latency over load, a panel a candidate count; a server that left requests unanswered ends in a cross."""
    counts = list(result["mix"])
    figure, panels = plt.subplots(1, len(counts), figsize=(9, 2.8), sharey=True, layout="constrained")
    for axes, count in zip(panels, counts, strict=True):
        for name, loads in result["open_loop"].items():
            points = [(each["load"], each["by_candidates"].get(count, {}).get("p99_ms")) for each in loads]
            known = [(load, value) for load, value in points if value]
            axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=name, color=COLOURS[name])
            failed = [(load, value) for (load, value), each in zip(points, loads, strict=True) if each["unanswered"]]
            axes.plot(*zip(*[p for p in failed if p[1]] or [((), ())], strict=True), "x", color=COLOURS[name])
        axes.set_yscale("log")
        axes.set_title(f"{count} candidate{'s' * (count != '1')}")
        axes.set_xlabel("load (share of the raw session)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("p99 latency, ms")
    panels[0].legend(frameon=False, fontsize=8)
    _save(figure, out)


def _save(figure: Any, out: Path) -> None:
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)
