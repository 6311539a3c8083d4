"""The kinds of panels of the dashboards, and the parts that all dashboards share. Knows no metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RUNBOOKS = "https://runbooks.example.com/runbooks.md"  # as in the alerts; see there
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED = "green", "yellow", "red"

Panel = timeseries.Panel | heatmap.Panel | stat.Panel | table.Panel
Kind = TypeVar("Kind", timeseries.Panel, heatmap.Panel, stat.Panel, table.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the legend of its series, with `{{label}}` for label values."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """The unit of the values, and their limits for yellow and red. `runbook` names the alert on the same values."""

    unit: str
    warn: float | None = None
    bad: float | None = None
    runbook: str = ""
    stacked: bool = False
    maximum: float | None = None
    width: int = 8


def over_time(title: str, about: str, look: Look, *queries: Query) -> timeseries.Panel:
    """Return lines over time, with the thresholds as lines."""
    panel = _described(timeseries.Panel(), title, about, look).min(0).fill_opacity(30 if look.stacked else 8)
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.TABLE)
        .placement(options.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
    if look.stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if look.warn is not None or look.bad is not None:
        style = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(style)
    return _asking(panel, queries)


def now(title: str, about: str, look: Look, query: Query) -> stat.Panel:
    """Return the latest value as a large number over a graph."""
    panel = _described(stat.Panel(), title, about, look).no_value("no data")
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    return _asking(panel.reduce_options(reduce).color_mode(options.BigValueColorMode.VALUE), (query,)).height(4)


def buckets(title: str, about: str, look: Look, expr: str) -> heatmap.Panel:
    """Return a histogram over time as a heatmap; `expr` gives increases by `le`."""
    panel = _described(heatmap.Panel(), title, about, look).calculate(False)
    panel = panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    panel = panel.y_axis(heatmap.YAxisConfig().unit(look.unit))
    query = prometheus.Dataquery().expr(expr).legend_format("{{le}}").format(PromQueryFormat.HEATMAP).ref_id("A")
    return panel.with_target(query.datasource(SOURCE))


def listing(title: str, about: str, look: Look, query: Query) -> table.Panel:
    """Return a table of the labels of the present series, one row each."""
    panel = _described(table.Panel(), title, about, look)
    ask = prometheus.Dataquery().expr(query.expr).instant().format(PromQueryFormat.TABLE).ref_id("A").datasource(SOURCE)
    drop = dict.fromkeys(("Time", "Value", "__name__"), True)
    tidy = model.DataTransformerConfig(id_val="organize", options={"excludeByName": drop})
    return panel.with_target(ask).transformations([tidy])


def board(uid: str, title: str, about: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> dashboard.Dashboard:
    """Return a dashboard with data source, job, annotations, links and rows of panels."""
    made = (
        dashboard.Dashboard(title).uid(uid).description(about).tags(["relevance"]).refresh("30s").time("now-3h", "now")
    )
    made = made.tooltip(model.DashboardCursorSync.CROSSHAIR).readonly()
    made = made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made = made.with_variable(choice("job", "Deployment", "label_values(relevance_ready, job)"))
    changes = 'sum by (job, task, result) (increase(relevance_model_changes_total{job=~"$job"}[$__rate_interval])) > 0'
    for name, expr, colour in (
        ("Model changes", changes, "blue"),
        ("Alerts", 'ALERTS{alertstate="firing", job=~"$job"}', RED),
    ):
        note = dashboard.AnnotationQuery().name(name).datasource(SOURCE).expr(expr).icon_color(colour).enable(True)
        made = made.annotation(note)
    made = made.link(
        dashboard.DashboardLink("Runbooks").type(model.DashboardLinkType.LINK).url(RUNBOOKS).target_blank(True)
    )
    others = dashboard.DashboardLink("Other dashboards").type(model.DashboardLinkType.DASHBOARDS).tags(["relevance"])
    made = made.link(others.keep_time(True).include_vars(True))
    for name, panels in rows:
        made = made.with_row(dashboard.Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable with values from Prometheus; all are selected at first."""
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        variable.multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _described(panel: Kind, title: str, about: str, look: Look) -> Kind:
    panel.title(title).description(about).datasource(SOURCE).unit(look.unit).span(look.width).height(8)
    if look.maximum is not None:
        panel.max(look.maximum)
    if look.runbook:
        link = (
            dashboard.DashboardLink("Runbook")
            .type(model.DashboardLinkType.LINK)
            .url(f"{RUNBOOKS}#{look.runbook.lower()}")
            .target_blank(True)
        )
        panel.links([link])
    panel.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(_steps(look)))
    return panel


def _steps(look: Look) -> list[model.Threshold]:
    limits = ((look.warn, YELLOW), (look.bad, RED))
    steps = [model.Threshold(value=limit, color=colour) for limit, colour in limits if limit is not None]
    return [model.Threshold(color=GREEN), *steps]


def _asking(panel: Kind, queries: Sequence[Query]) -> Kind:
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
        panel.with_target(target.datasource(SOURCE))
    return panel
