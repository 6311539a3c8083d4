"""A study for people: Markdown tables, a plot (SVG) of the differences, and a page."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from relevance.evaluation.intervals import Interval
from training.ablation.study import ArmResult, Study
from training.data.extras import MADE
from training.reports.charts import Dot, IntervalRow, dot_chart, interval_chart
from training.reports.template import render_page

PARTS = ("all", "seen", "unseen")
_SECTIONS = {
    "differences": "What each strategy adds",
    "recoveries": "What is won back",
    "arms": "The arms",
    "languages": "By language",
}


def markdown(study: Study) -> str:
    """Return a table of the arms, a line each, then one of the comparisons, then one of what was recovered."""
    parts = _parts(study)
    aucs = [f"AUC {part}" for part in parts]
    tables = [_table(["training", "rows", *aucs, "F1 (always-yes)", "F1, tuned less 0.5"], _arm_rows(study, parts))]
    if study.comparisons:
        rows = [[c.arm, c.against, *(f"{c.auc[part]:+.3f}" for part in parts)] for c in study.comparisons]
        tables.append(_table(["difference of AUC", "against", *parts], rows))
    if study.recoveries:
        rows = [[r.arm, r.damaged, *(f"{r.auc[part]:.2f}" for part in parts)] for r in study.recoveries]
        tables.append(_table(["share of the lost AUC recovered", "lost by", *parts], rows))
    return "\n".join(tables)


def by_language(study: Study) -> str:
    """Return a Markdown table of AUC by language, a line an arm."""
    return _table(["AUC", *_languages(study)], _language_rows(study))


def plot(study: Study, title: str) -> str:
    """Return an SVG with a row a comparison: the difference of AUC and its 95 % interval, for each slice."""
    names = {part: part if part == "all" else f"{part} languages" for part in _parts(study)}
    rows = []
    for each in study.comparisons:
        found = {names[part]: each.auc[part] for part in names}
        known = {
            name: (of.low, of.value, of.high)
            for name, of in found.items()
            if of.low is not None and of.value is not None and of.high is not None
        }
        rows.append(IntervalRow(each.arm, f"against {each.against}", known))
    return interval_chart(title, rows, list(names.values()))


def page(study: Study, name: str) -> str:
    """Return the study as a page (HTML) of its own, in the look of the other reports."""
    shown = {"differences": bool(study.comparisons), "recoveries": bool(study.recoveries)}
    return render_page(
        "study.html",
        title=f"Ablation of {name}",
        study=study,
        parts=_parts(study),
        sections={key: heading for key, heading in _SECTIONS.items() if shown.get(key, True)},
        show=_Shown(study),
    )


class _Shown:
    """What the template asks for: charts, and cells of tables."""

    def __init__(self, study: Study) -> None:
        self._study, self._parts = study, _parts(study)

    def differences(self, part: str) -> Markup:
        """Return the differences of AUC in a slice as a chart."""
        found = [(each, each.auc[part]) for each in self._study.comparisons]
        dots = [
            Dot.of(f"{each.arm} against {each.against}", auc.value, (auc.low, auc.high))
            for each, auc in found
            if auc.value is not None
        ]
        return Markup(dot_chart(f"Difference of AUC, {part}", dots, 0, above=True))

    def cells(self, found: Mapping[str, Interval], form: str) -> list[str]:
        """Return the value of each slice with its interval."""
        return [format(found[part], form) for part in self._parts]

    def arm_columns(self) -> list[str]:
        """Return the names of the columns of `arms`."""
        return ["rows", *(f"AUC {part}" for part in self._parts), "F1 (always-yes)", "F1, tuned less 0.5"]

    def arms(self) -> list[list[str]]:
        """Return a row of a table for each arm."""
        return _arm_rows(self._study, self._parts)

    def languages(self) -> list[str]:
        """Return the languages of the test rows."""
        return _languages(self._study)

    def by_language(self) -> list[list[str]]:
        """Return a row of a table for each arm: AUC by language."""
        return _language_rows(self._study)


def _arm_rows(study: Study, parts: Sequence[str]) -> list[list[str]]:
    return [[arm.name, _rows(arm), *_aucs(arm, parts), *_f1(arm, study)] for arm in study.arms]


def _languages(study: Study) -> list[str]:
    return [name for name in study.always_yes_f1 if name not in PARTS]


def _language_rows(study: Study) -> list[list[str]]:
    return [[arm.name, *_aucs(arm, _languages(study))] for arm in study.arms]


def _parts(study: Study) -> list[str]:
    """Return the slices to show: `seen` and `unseen` only where both are there, else they say what `all` says."""
    return list(PARTS) if set(PARTS) <= set(study.always_yes_f1) else ["all"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def _rows(arm: ArmResult) -> str:
    made = [f"{count:,.0f} {name}" for name, count in arm.rows.items() if name in MADE]
    return f"{arm.rows['all']:,.0f}" + (f" (with {', '.join(made)})" if made else "")


def _aucs(arm: ArmResult, parts: Sequence[str]) -> list[str]:
    values = [arm.metrics[part].auc.value for part in parts]
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _f1(arm: ArmResult, study: Study) -> list[str]:
    every = arm.metrics["all"]
    value = "-" if every.f1.value is None else f"{every.f1.value:.3f}"
    return [f"{value} ({study.always_yes_f1['all']:.3f})", f"{every.threshold_effect:+.3f}"]
