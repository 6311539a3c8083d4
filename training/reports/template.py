"""Pages from Jinja templates: every value is escaped, and a page is one file that loads nothing."""

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """Return a page. Raises jinja2.UndefinedError for a value that the template needs and does not get."""
    return _environment().get_template(template).render(values) + "\n"


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("training.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["number"] = lambda value: f"{value:,}" if isinstance(value, int) else str(value)
    environment.filters["counted"] = _counted
    return environment


def _counted(count: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun: `1 row`, `1,200 rows`; `more` is the plural where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def _breakable(value: object) -> "Markup":
    """Return an escaped text that may be broken after a comma: category paths have no spaces there."""
    from markupsafe import Markup, escape

    return Markup(",<wbr>").join(map(escape, str(value).split(",")))
