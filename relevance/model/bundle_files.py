"""The files of a bundle on disk: read within limits, never by a link out of the folder, their hashes verified.

Must not know what is in them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from relevance.errors import BundleError
from relevance.model.reports import EXPECTED, REPORTS_FOLDER, is_report
from relevance.storage.files import sha256_of

MAX_FILE_BYTES = 64 * 1024 * 1024  # of the manifest and of the golden pairs, which take some kilobytes


def path_in(folder: Path, name: str) -> Path:
    """Return the path of a bundle's file. Raises BundleError for a link that leads out of the bundle's folder."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"bundle {folder}: {name} is a link out of its folder; expected a file in it")
    except (OSError, RuntimeError):  # a cycle of links
        raise BundleError(f"bundle {folder}: {name} is a link that leads nowhere; expected a file") from None
    return path


def read_file(folder: Path, name: str, most: int | None = None) -> bytes:
    """Return the bytes of a file. Raises BundleError if it cannot be read or has over `most` bytes (MAX_FILE_BYTES)."""
    most = MAX_FILE_BYTES if most is None else most
    try:
        with path_in(folder, name).open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BundleError(f"bundle {folder}: {name}: {error.strerror}") from None
    if len(content) > most:
        raise BundleError(f"bundle {folder}: {name} is larger than {most} bytes")
    return content


def read_unchanged(folder: Path, name: str, sha256: str, most: int) -> bytes:
    """Return the bytes of a file whose sha256 is known. Raises BundleError if it has another one now."""
    content = read_file(folder, name, most)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"bundle {folder}: {name} has changed since the bundle was opened")
    return content


def all_files(folder: Path) -> list[str]:
    """Return the names of all files in a folder and those below it, without hidden ones (`.gitattributes`)."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def verify_hashes(folder: Path, names: Iterable[str], sha256: Mapping[str, str]) -> None:
    """Raise BundleError naming every file that is missing or whose sha256 differs from the manifest's."""
    faults = [fault for name in names if (fault := _fault(folder, name, sha256.get(name)))]
    if faults:
        raise BundleError(f"bundle {folder}: {'; '.join(faults)}; the bundle is damaged or altered, export it again")


def _fault(folder: Path, name: str, expected: str | None) -> str | None:
    """Return what is wrong with a file, or None."""
    if name.startswith(f"{REPORTS_FOLDER}/") and not is_report(name):
        return f"{name[:200]!r} is no name of a report, expected {EXPECTED}"
    if not path_in(folder, name).is_file():
        return f"{name} is missing"
    if expected is None:
        return f"{name} is there, and the manifest has no sha256 of it"
    try:
        found = sha256_of(folder / name)
    except OSError as error:
        raise BundleError(f"bundle {folder}: {name}: {error.strerror}") from None
    return None if found == expected else f"{name} has sha256 {found[:12]}..., expected {expected[:12]}..."
