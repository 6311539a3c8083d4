"""The folders whose bundles the admin interface may load."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from relevance.errors import ConfigError
from service.errors import InvalidRequestError
from service.settings import Settings


def bundle_roots(settings: Settings, bundles: Iterable[Path]) -> list[Path]:
    """Return the folders that may contain bundles, symbolic links resolved. Raises ConfigError for a missing one."""
    given = [settings.bundle_root] if settings.bundle_root else [folder.absolute().parent for folder in bundles]
    roots = sorted({root.resolve() for root in given})
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"bundle_root {root}: no such folder; expected one that holds bundles")
    return roots


def folder_below(name: str, roots: Sequence[Path]) -> Path:
    """Return the folder of a bundle, symbolic links resolved. A relative name is looked up below each root.

    Raises InvalidRequestError where it is not below a root; such a folder is not read.
    """
    for root in roots:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long, not a path, or a loop of links
            folder = (root / name).resolve()
            if folder != root and folder.is_relative_to(root) and folder.is_dir():
                return folder
    allowed = " or ".join(map(str, roots))
    raise InvalidRequestError(
        f"bundle {name[:200]!r}: expected a folder below {allowed}; the setting bundle_root names another"
    )
