"""The project's version and the name of its distribution. `relevance` on PyPI is another project."""

from importlib.metadata import version

DISTRIBUTION = "query-relevance"


def project_version() -> str:
    """Return the installed version. Raises PackageNotFoundError if the project is not installed."""
    return version(DISTRIBUTION)
