"""A study as people read it: a Markdown table and a plot (SVG) of the differences."""

from collections.abc import Sequence
from html import escape

from relevance.metrics import Interval
from training.ablation.study import ArmResult, Comparison, Study

PARTS = ("all", "seen", "unseen")
_COLOURS = {"all": "#222", "seen": "#1f6fb4", "unseen": "#c2570c"}
_ROW, _LEFT, _RIGHT, _TOP, _WIDTH = 54, 300, 20, 34, 820


def markdown(study: Study) -> str:
    """Return a table of the arms, a line each, then one of the comparisons, then one of what was recovered."""
    parts = _parts(study)
    rows = [_line(["training", "rows", *(f"AUC {part}" for part in parts), "F1 (always-yes)", "F1, tuned less 0.5"])]
    rows.append(_rule(len(parts) + 4))
    for arm in study.arms:
        every = arm.metrics["all"]
        rows.append(
            _line(
                [
                    arm.name,
                    _rows(arm),
                    *(_plain(arm.metrics[part].auc) for part in parts),
                    f"{_plain(every.f1)} ({study.always_yes_f1['all']:.3f})",
                    _signed(every.threshold_effect),
                ]
            )
        )
    if study.comparisons:
        rows += ["", _line(["difference of AUC", "against", *parts]), _rule(len(parts) + 2)]
        rows += [_line([c.arm, c.against, *(_signed(c.auc[part]) for part in parts)]) for c in study.comparisons]
    if study.recoveries:
        rows += ["", _line(["share of the lost AUC recovered", "lost by", *parts]), _rule(len(parts) + 2)]
        rows += [_line([r.arm, r.damaged, *(_share(r.auc[part]) for part in parts)]) for r in study.recoveries]
    return "\n".join(rows) + "\n"


def by_language(study: Study) -> str:
    """Return a Markdown table of AUC by language, a line an arm."""
    languages = [name for name in study.always_yes_f1 if name not in PARTS]
    rows = [_line(["AUC", *languages]), _rule(len(languages) + 1)]
    for arm in study.arms:
        rows.append(_line([arm.name, *(_plain(arm.metrics[code].auc) for code in languages)]))
    return "\n".join(rows) + "\n"


def plot(study: Study, title: str) -> str:
    """Return an SVG with a line a comparison: the difference of AUC and its 95 % interval, for each slice."""
    parts = _parts(study)
    ends = [
        end
        for each in study.comparisons
        for part in parts
        for end in (each.auc[part].low, each.auc[part].high, 0.0)
        if end is not None
    ]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    margin = max(0.05 * (high - low), 0.002)
    scale = _Scale(low - margin, high + margin)
    height = _TOP + _ROW * len(study.comparisons) + 52
    shapes = [_text(16, 20, title, "title"), *_axis(scale, height - 40)]
    for place, each in enumerate(study.comparisons):
        shapes += _comparison(each, parts, _TOP + place * _ROW, scale)
    for place, part in enumerate(parts):
        x = 16 + 150 * place
        shapes += [
            f'<circle cx="{x}" cy="{height - 12}" r="4" fill="{_COLOURS[part]}"/>',
            _text(x + 9, height - 8, part if part == "all" else f"{part} languages", "label"),
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>text{{font:13px system-ui,sans-serif;fill:#222}}'
        ".title{font-weight:600}.small{fill:#555;font-size:12px}.end{text-anchor:end}.middle{text-anchor:middle}"
        '</style><rect width="100%" height="100%" fill="#fff"/>' + "".join(shapes) + "</svg>\n"
    )


def _parts(study: Study) -> list[str]:
    """Return the slices to show: `seen` and `unseen` only where both are there, else they say what `all` says."""
    return list(PARTS) if set(PARTS) <= set(study.always_yes_f1) else ["all"]


class _Scale:
    """From a difference to a place on the x axis."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def ticks(self) -> list[float]:
        """Return round values within the scale, at most nine."""
        span = self.high - self.low
        step = next(step for step in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if span / step <= 8)
        first = int(self.low / step) - 1
        return [tick for n in range(first, first + 12) if self.low <= (tick := round(n * step, 4)) <= self.high]


def _axis(scale: _Scale, bottom: float) -> list[str]:
    shapes = []
    for tick in scale.ticks():
        x = scale(tick)
        colour, width = ("#888", 1.2) if tick == 0 else ("#e3e3e3", 1)
        shapes.append(f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}" stroke="{colour}" stroke-width="{width}"/>')
        shapes.append(_text(x, bottom + 15, f"{tick:+g}" if tick else "0", "small middle"))
    return shapes


def _comparison(each: Comparison, parts: Sequence[str], top: float, scale: _Scale) -> list[str]:
    shapes = [_text(16, top + 22, each.arm, "label"), _text(16, top + 38, f"against {each.against}", "small")]
    for place, part in enumerate(parts):
        found, y = each.auc[part], top + 14 + 13 * place
        if found.value is None or found.low is None or found.high is None:
            continue
        colour = _COLOURS[part]
        shapes.append(
            f'<line x1="{scale(found.low)}" x2="{scale(found.high)}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2"/><circle cx="{scale(found.value)}" cy="{y}" r="4" fill="{colour}"/>'
        )
    return shapes


def _rows(arm: ArmResult) -> str:
    made = [f"{count:,.0f} {name}" for name, count in arm.rows.items() if name in ("translation", "negative")]
    return f"{arm.rows['all']:,.0f}" + (f" (with {', '.join(made)})" if made else "")


def _plain(found: Interval) -> str:
    return "-" if found.value is None else f"{found.value:.3f}"


def _signed(found: Interval) -> str:
    return _with_ends(found, "+.3f")


def _share(found: Interval) -> str:
    return _with_ends(found, ".2f")


def _with_ends(found: Interval, form: str) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'
