"""Resolve the path of a data set to files: a file, a pipe, a folder or pattern of part files, or standard input (`-`).

Knows names and compression; knows nothing of rows.
"""

import contextlib
import errno
import functools
import glob
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relevance.errors import InputError, MachineError

STANDARD = Path("-")  # standard input for what is read, standard output for what is written
JSON_TYPES = (".txt", ".jsonl", ".ndjson", ".json")
TSV, PARQUET = ".tsv", ".parquet"
DELIMITERS = {".csv": ",", TSV: "\t"}
TYPES = (*JSON_TYPES, *DELIMITERS, PARQUET)
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


@dataclass(frozen=True, slots=True)
class Part:
    """One file: where it is, how messages name it, its type (`.csv`) and its compression (`.gz`, `.zst` or none)."""

    path: Path
    name: str
    suffix: str
    compression: str = ""

    @contextlib.contextmanager
    def open(self) -> Iterator[io.BufferedReader]:
        """Open the decompressed bytes. InputError if they cannot be read or are truncated."""
        try:
            with _opened(self.path, self.compression) as stream:
                yield stream
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
            kind = f" as {COMPRESSIONS[self.compression]}" if self.compression else ""
            raise InputError(f"{self.name}: cannot be read{kind} ({why}); expected a whole file") from error


def type_of(path: Path, role: str = "") -> tuple[str, str]:
    """Return file type and compression by a file's name. InputError for an unknown one."""
    name = path.name.lower()
    compression = next((end for end in COMPRESSIONS if name.endswith(end)), "")
    suffix = Path(name.removesuffix(compression)).suffix
    if suffix not in TYPES or (compression and suffix == PARQUET):
        expected = ", ".join(map(repr, TYPES))
        raise InputError(
            f"{role}{path}: unknown file type {(suffix + compression) or path.suffix!r}; expected one of {expected}, "
            "each but Parquet also as .gz or .zst"
        )
    return suffix, compression


def parts_of(path: Path) -> list[Part]:
    """Return the files of a data set, in the order of their names.

    A folder is read at any depth, without files and folders whose names begin with a dot or an underscore
    (`_SUCCESS`). InputError if there is no file, or if one cannot be opened or has an unknown type.
    """
    if is_stream(path):
        return [_copied(path)[0]]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
        expected = "expected a file, or a folder that holds part files"
        if not files:
            raise InputError(f"{path}: is a folder without data files; {expected}")
    elif not (files := files_of(path)):
        raise InputError(f"{path}: no file matches this pattern; expected at least one")
    parts = [Part(file, str(file), *type_of(file)) for file in files]
    for file in files:
        try:
            file.open("rb").close()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); expected a file") from error
    return parts


def files_of(path: Path) -> list[Path]:
    """Return the path itself, or the files that match it if it is a pattern, in the order of their names."""
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - takes absolute patterns too
    return [Path(name) for name in found if Path(name).is_file()]


def is_stream(path: Path) -> bool:
    """Return whether a path can be read only once: standard input, a named pipe, a process substitution of a shell."""
    return path == STANDARD or (path.exists() and not path.is_file() and not path.is_dir())


def _opened(path: Path, compression: str) -> io.BufferedReader:
    if not compression:
        return path.open("rb")
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression=COMPRESSIONS[compression]))


def _is_hidden(path: Path) -> bool:
    return any(name.startswith((".", "_")) for name in path.parts)


@functools.cache  # several passes read it, but it can be read only once
def _copied(source: Path) -> tuple[Part, object]:
    """Copy a stream to a temporary file. Return it, with a type guessed by its first bytes, and its handle."""
    copy = tempfile.NamedTemporaryFile(prefix="relevance-stream-")  # noqa: SIM115 - goes with the process
    name = "standard input" if source == STANDARD else str(source)
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == STANDARD else source.open("rb") as stream:
            shutil.copyfileobj(stream, copy)
        copy.flush()
    except OSError as error:
        copy.close()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f"{tempfile.gettempdir()}: no room for a copy of {name} ({error.strerror})"
            raise MachineError(f"{where}; expected a TMPDIR that has it") from None
        raise InputError(f"{name}: cannot be read ({error.strerror}); expected a file") from error
    path = Path(copy.name)
    with path.open("rb") as content:
        compression = next((end for magic, end in MAGIC.items() if content.peek(4).startswith(magic)), "")
    with _opened(path, compression) as content:
        return Part(path, name, _guessed(content.peek(1 << 12)), compression), copy


def _guessed(head: bytes) -> str:
    if head.startswith(b"PAR1"):
        return PARQUET
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n")[0].replace(b"\0", b"")
    if line[:1] in (b"{", b"[", b"") or line[2:3] in (b"{", b"["):
        return ".jsonl"
    return ".tsv" if b"\t" in line else ".csv"
