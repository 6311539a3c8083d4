"""The data report as one HTML page that needs nothing else: no network, no script, plots as inline SVG."""

from pathlib import Path
from string import Template

from training.reports import sections
from training.reports.markup import Section
from training.reports.measures import DataReport

_TEMPLATE = Path(__file__).parent / "page.html"


def render(report: DataReport) -> str:
    """Return the page. Texts from the data are escaped, and the page forbids scripts and requests whatever it holds."""
    parts = [build(report) for build in sections.ALL]
    shown = [part for part in parts if part is not None]
    names = ", ".join(file.name for file in report.files)
    rows = sum(file.rows for file in report.files)
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=sections.escape(f"Data report: {names}"),
        subtitle=sections.escape(f"Task {report.task.upper()}, {rows:,} rows"),
        contents=" ".join(map(_link, shown)),
        sections="\n".join(part.html() for part in shown),
    )


def _link(section: Section) -> str:
    return f'<a href="#{section.key}">{sections.escape(section.heading)}</a>'
