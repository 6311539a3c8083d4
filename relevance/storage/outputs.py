"""Checks the outputs of a command: not an input, not twice, and not an existing file without --overwrite."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from relevance.errors import ConfigError, InputError
from relevance.storage.files import whole_file

STANDARD = Path("-")  # standard input or output: nothing that can be replaced


def check_outputs(
    outputs: Iterable[Path | None], inputs: Iterable[Path | None] = (), *, overwrite: bool = False
) -> None:
    """Raise if an output is, holds or lies in an input (links resolved), is given twice, or exists already.

    Inputs that do not exist, are patterns or are no paths are ignored. An empty folder counts as absent.
    """
    targets = [path for path in outputs if path is not None and path != STANDARD]
    sources = [path for path in inputs if path is not None and path != STANDARD]
    for target in targets:
        for source in sources:
            if how := _overlap(target, source):
                raise InputError(f"output {target}: {how} the input {source}; expected a place apart from it")
    for first, second in combinations(targets, 2):
        if _overlap(first, second):
            raise ConfigError(f"outputs {first} and {second}: expected a place of its own for each")
    for target in () if overwrite else targets:
        if _is_there(target):
            raise ConfigError(f"output {target}: exists already; expected a new place, or --overwrite")


def _overlap(first: Path, second: Path) -> str | None:
    """Return how two paths overlap: the first `is`, `lies in` or `holds` the second. None: not at all."""
    a, b = first.resolve(), second.resolve()
    if a == b or (first.exists() and second.exists() and first.samefile(second)):  # hard links have other paths
        return "is"
    if b in a.parents:
        return "lies in"
    return "holds" if a in b.parents else None


def _is_there(path: Path) -> bool:
    return path.is_symlink() or (any(path.iterdir()) if path.is_dir() else path.exists())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises MachineError if it cannot be written."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
