"""The version of the project, and the name of its distribution: `relevance` itself is a stranger's on PyPI."""

from importlib.metadata import version

DISTRIBUTION = "query-relevance"


def project_version() -> str:
    """Return the version that is installed. Raises PackageNotFoundError where the project is not installed."""
    return version(DISTRIBUTION)
