"""The data report as a page: charts and rows of tables for the template `data.html`, from the figures of `measures`."""

from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup

from relevance.tasks import Task
from training.reports import charts
from training.reports.charts import Bar
from training.reports.density import SEGMENT
from training.reports.figures import DataReport, FileFigures, Histogram
from training.reports.template import render_page

_SHOWN = 30  # bars a chart: a column that holds no languages may have thousands of values
_CANDIDATES = {Task.QC: "category paths", Task.QI: "titles", Task.RERANK: "documents"}
_SECTIONS = {
    "overview": "Overview",
    "languages": "Rows and labels by language",
    "lengths": "Lengths",
    "depths": "Depth of category paths",
    "duplicates": "Repeated and contradictory rows",
    "leaks": "Leaks between files",
    "tags": "Language tags",
    "scripts": "Scripts of queries",
    "density": "Feature density",
}


def render(report: DataReport) -> str:
    """Return the page. Texts from the data are escaped, and the page forbids scripts and requests whatever it holds."""
    shown = {
        "depths": report.task is Task.QC,
        "leaks": bool(report.leaks),
        "tags": any(file.tags for file in report.files),
    }
    return render_page(
        "data.html",
        title=f"Data report: {', '.join(file.name for file in report.files)}",
        report=report,
        sections={key: heading for key, heading in _SECTIONS.items() if shown.get(key, True)},
        candidates=_CANDIDATES[report.task],
        share=share,
        charts=_Charts(),
        segment=SEGMENT,
    )


def share(part: float, whole: float) -> str:
    """Return a part as a percentage of the whole."""
    if not whole:
        return "-"
    return f"{100 * part / whole:.1f} %" if not 0 < part / whole < 0.0005 else "< 0.1 %"


def _bars(title: str, bars: Iterable[Bar], limit: float | None = None) -> Markup:
    first = list(bars)[:_SHOWN]
    return Markup(charts.bar_chart(title, first, limit=limit) if first else "")


class _Charts:
    """What the template asks for: a chart of a file, or the rows of the table beside it."""

    def languages(self, file: FileFigures) -> Markup:
        """Rows and positives by language tag."""
        bars = (
            Bar(name, (of.positive, of.rows - of.positive), f"{of.rows:,}, {share(of.positive, of.rows)}")
            for name, of in file.languages.items()
        )
        return _bars(f"Rows by language in {file.name}", bars)

    def lengths(self, file: FileFigures, what: str, found: Histogram) -> Markup:
        """Lengths of queries or candidates."""
        starts = [at * found.width for at in range(len(found.counts))]
        labels = [*map(str, starts[:-1]), f"{starts[-1]}+"]
        return Markup(charts.histogram(f"Lengths of {what} in {file.name}", found.counts, labels))

    def depths(self, file: FileFigures) -> Markup:
        """Different category paths by their number of levels."""
        bars = (Bar(f"{depth} levels", (count,), f"{count:,}") for depth, count in file.depths.items())
        return _bars(f"Depth of category paths in {file.name}", bars)

    def tags(self, file: FileFigures) -> Markup:
        """Rows whose language tag disagrees with detection."""
        wrong = file.tags.disagreements if file.tags else {}
        bars = (Bar(name, (count,), f"{count:,}") for name, count in wrong.items())
        return _bars(f"Rows by tag and detected language in {file.name}", bars)

    def wrong_tags(self, file: FileFigures) -> str:
        """How many rows these are."""
        wrong = sum(file.tags.disagreements.values()) if file.tags else 0
        return f"{wrong:,} of {file.rows:,} rows ({share(wrong, file.rows)})."

    def script_counts(self, file: FileFigures) -> dict[str, int]:
        """Letters of all queries by script, the most frequent first."""
        totals: Counter[str] = Counter()
        for found in file.languages.values():
            totals.update(found.scripts)
        return dict(totals.most_common())

    def scripts(self, file: FileFigures) -> Markup:
        """The same as bars."""
        counts = self.script_counts(file)
        whole = sum(counts.values())
        bars = (Bar(script.capitalize(), (count,), share(count, whole)) for script, count in counts.items())
        return _bars(f"Letters by script in {file.name}", bars)

    def densities(self, file: FileFigures) -> Markup:
        """Feature density of queries by language, the highest first; languages with too few features have no bar."""
        measured = ((name, of.query_density) for name, of in file.languages.items())
        found = sorted(((d.segmental, name, d.unit) for name, d in measured if d.segmental is not None), reverse=True)
        notes = {"words": ""}
        bars = (Bar(name, (value,), f"{value:.3f}{notes.get(unit, ' (pairs)')}") for value, name, unit in found)
        return _bars(f"Feature density of queries in {file.name}", bars, limit=1.0)
