"""A study for people: Markdown tables, and a plot (SVG) of the differences."""

from collections.abc import Sequence

from training.ablation.study import ArmResult, Study
from training.reports.charts import IntervalRow, interval_chart

PARTS = ("all", "seen", "unseen")


def markdown(study: Study) -> str:
    """Return a table of the arms, a line each, then one of the comparisons, then one of what was recovered."""
    parts = _parts(study)
    aucs = [f"AUC {part}" for part in parts]
    arms = [[arm.name, _rows(arm), *_aucs(arm, parts), *_f1(arm, study)] for arm in study.arms]
    tables = [_table(["training", "rows", *aucs, "F1 (always-yes)", "F1, tuned less 0.5"], arms)]
    if study.comparisons:
        rows = [[c.arm, c.against, *(f"{c.auc[part]:+.3f}" for part in parts)] for c in study.comparisons]
        tables.append(_table(["difference of AUC", "against", *parts], rows))
    if study.recoveries:
        rows = [[r.arm, r.damaged, *(f"{r.auc[part]:.2f}" for part in parts)] for r in study.recoveries]
        tables.append(_table(["share of the lost AUC recovered", "lost by", *parts], rows))
    return "\n".join(tables)


def by_language(study: Study) -> str:
    """Return a Markdown table of AUC by language, a line an arm."""
    languages = [name for name in study.always_yes_f1 if name not in PARTS]
    return _table(["AUC", *languages], [[arm.name, *_aucs(arm, languages)] for arm in study.arms])


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


def _parts(study: Study) -> list[str]:
    """Return the slices to show: `seen` and `unseen` only where both are there, else they say what `all` says."""
    return list(PARTS) if set(PARTS) <= set(study.always_yes_f1) else ["all"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def _rows(arm: ArmResult) -> str:
    made = [f"{count:,.0f} {name}" for name, count in arm.rows.items() if name in ("translation", "negative")]
    return f"{arm.rows['all']:,.0f}" + (f" (with {', '.join(made)})" if made else "")


def _aucs(arm: ArmResult, parts: Sequence[str]) -> list[str]:
    values = [arm.metrics[part].auc.value for part in parts]
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _f1(arm: ArmResult, study: Study) -> list[str]:
    every = arm.metrics["all"]
    value = "-" if every.f1.value is None else f"{every.f1.value:.3f}"
    return [f"{value} ({study.always_yes_f1['all']:.3f})", f"{every.threshold_effect:+.3f}"]
