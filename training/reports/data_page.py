"""The data report as a page: charts and rows of tables for the template `data.html`, from the figures of `measures`."""

from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup

from relevance.tasks import Task
from training.reports import charts
from training.reports.charts import Bar
from training.reports.density import SEGMENT
from training.reports.measures import DataReport, FileFigures, Histogram
from training.reports.template import render_page

_SHOWN = 30  # bars a chart: a column that holds no languages may have thousands of values
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
        candidates="category paths" if report.task is Task.QC else "titles",
        overview=[_overview(file) for file in report.files],
        leaks=[(leak.first, leak.second, leak.queries, leak.first_rows, leak.second_rows) for leak in report.leaks],
        charts=_Charts(),
        segment=SEGMENT,
    )


def share(part: float, whole: float) -> str:
    """Return a part as a percentage of the whole."""
    if not whole:
        return "-"
    return f"{100 * part / whole:.1f} %" if not 0 < part / whole < 0.0005 else "< 0.1 %"


def _overview(file: FileFigures) -> tuple[object, ...]:
    positive, repeated = share(file.positive, file.rows), file.votes.merged_rows
    counts = (file.queries, file.candidates, len(file.languages), repeated, file.votes.contradictory_pairs)
    return (file.name, file.rows, positive, *counts)


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

    def language_rows(self, file: FileFigures) -> list[tuple[object, ...]]:
        """The same in numbers."""
        found = file.languages.items()
        return [(name, of.rows, of.positive, share(of.positive, of.rows), of.queries) for name, of in found]

    def lengths(self, file: FileFigures, what: str, found: Histogram) -> Markup:
        """Lengths of queries or candidates."""
        starts = [at * found.width for at in range(len(found.counts))]
        labels = [*map(str, starts[:-1]), f"{starts[-1]}+"]
        return Markup(charts.histogram(f"Lengths of {what} in {file.name}", found.counts, labels))

    def length_rows(self, found: Histogram) -> list[tuple[str, int]]:
        """The same in numbers."""
        *starts, last = [at * found.width for at in range(len(found.counts))]
        ranges = [*(f"{start} to {start + found.width - 1}" for start in starts), f"{last} or more"]
        return list(zip(ranges, found.counts, strict=True))

    def query_lengths(self, file: FileFigures) -> list[tuple[object, ...]]:
        """Median, 95th percentile and greatest length of queries by language."""
        return [(name, *of.query_characters.values()) for name, of in file.languages.items()]

    def depths(self, file: FileFigures) -> Markup:
        """Different category paths by their number of levels."""
        bars = (Bar(f"{depth} levels", (count,), f"{count:,}") for depth, count in file.depths.items())
        return _bars(f"Depth of category paths in {file.name}", bars)

    def examples(self, file: FileFigures) -> list[tuple[object, ...]]:
        """The first pairs with both labels."""
        return [(e.query, e.candidate, e.positive, e.negative, ", ".join(e.ids)) for e in file.votes.examples]

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

    def script_rows(self, file: FileFigures) -> list[tuple[object, ...]]:
        """Letters by language and script."""
        names = self.script_counts(file)
        return [(language, *(of.scripts.get(name, 0) for name in names)) for language, of in file.languages.items()]

    def densities(self, file: FileFigures) -> Markup:
        """Feature density of queries by language, the highest first; languages with too few features have no bar."""
        measured = ((name, of.query_density) for name, of in file.languages.items())
        found = sorted(((d.segmental, name, d.unit) for name, d in measured if d.segmental is not None), reverse=True)
        notes = {"words": ""}
        bars = (Bar(name, (value,), f"{value:.3f}{notes.get(unit, ' (pairs)')}") for value, name, unit in found)
        return _bars(f"Feature density of queries in {file.name}", bars, limit=1.0)

    def density_rows(self, file: FileFigures) -> list[tuple[object, ...]]:
        """Feature density of queries by language and of all candidates."""
        measured = [(name, of.query_density) for name, of in file.languages.items()]
        return [
            (
                name,
                d.unit,
                d.texts,
                d.features,
                d.different,
                f"{d.ratio:.3f}",
                f"{d.segmental:.3f}" if d.segmental else "-",
            )
            for name, d in [*measured, ("all candidates", file.candidate_density)]
        ]
