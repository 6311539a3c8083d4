"""Write records with any fields as JSON lines, CSV, TSV or Parquet, by the name of the file.

Knows nothing of the meaning of fields. JSON keeps every value. A table cell holds text, a number or a boolean; other
values (lists, objects, columns of mixed types, integers beyond 64 bits) become JSON text. TSV has no quotes: a cell
with a tab or a line break is an error.
"""

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from relevance.errors import InputError
from relevance.storage.files import whole_file
from relevance.storage.outputs import STANDARD, check_outputs
from training.data.files.json_lines import json_line
from training.data.files.parts import COMPRESSIONS, DELIMITERS, JSON_TYPES, PARQUET, TSV, files_of, type_of

if TYPE_CHECKING:
    import pyarrow as pa

Record = Mapping[str, Any]
_KINDS = {type(None): "null", bool: "bool", float: "float", str: "text"}
ROW_GROUP = 16_384
EXACT_IN_FLOAT = 2**53  # a larger integer may change when it becomes a float


@dataclass(frozen=True)
class Columns:
    """The columns of a table, in the order of their first record, and the kinds of value that each holds."""

    kinds: dict[str, set[str]] = field(default_factory=dict)

    def see(self, record: Record) -> None:
        """Add the columns and kinds of values of a record."""
        for name, value in record.items():
            kind = _KINDS.get(type(value)) or _kind(value)
            if kind not in self.kinds.setdefault(name, set()):
                self.kinds[name].add(kind)


def check_files(
    rows: Iterable[Path | None],
    inputs: Iterable[Path | None] = (),
    *,
    others: Iterable[Path | None] = (),
    kept: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Check the outputs of a command before any work: `rows` are files of records, `others` are of any kind.

    `kept` is a cache that a command keeps between runs, so it may exist. Raises InputError for a file name of unknown
    type, and the errors of `check_outputs`.
    """
    rows = [path for path in rows if path is not None]
    for path in rows:
        output_type(path)
    inputs = list(inputs)
    if inputs.count(STANDARD) > 1:
        raise InputError("-: standard input is named twice; expected it once, because it can be read only once")
    sources = [file for path in inputs if path for file in files_of(path)]
    outputs = [*rows, *others]
    check_outputs(outputs, sources, overwrite=overwrite)
    if kept is not None:
        check_outputs([*outputs, kept], sources, overwrite=True)


def check_ending(path: Path | None, *endings: str) -> None:
    """Raise InputError if the name of an output does not have one of the endings."""
    if path is not None and path.suffix.lower() not in endings:
        raise InputError(f"output {path}: expected a name that ends in {' or '.join(endings)}")


def output_type(path: Path) -> tuple[str, str]:
    """Return type and compression by an output's name; standard output gets JSON lines."""
    return (".jsonl", "") if path == STANDARD else type_of(path, "output ")


def write_file(path: Path, records: Iterable[Record]) -> None:
    """Write records in the format of the file's name, atomically; `-` is standard output.

    Records are gone through twice where the format is a table, whose columns have to be known first; an iterator, which
    can be used only once, is held in memory. Creates missing parent folders. InputError if the file cannot hold a
    record, MachineError if it cannot be written.
    """
    if isinstance(records, Iterator):
        records = list(records)
    columns = Columns()
    kind = output_type(path)
    if kind[0] not in JSON_TYPES:
        for number, record in enumerate(records, 1):
            columns.see(record)
            check_record(path, record, f"record {number}")
    with output_file(path) as beside:
        write_records(beside, kind, records, columns)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path. Without an error it then replaces the file, or is copied to standard output for `-`."""
    if path != STANDARD:
        with whole_file(path) as beside:
            yield beside
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "output"
        with (Path(folder) / "output").open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def beside(out: Path, ending: str) -> Path:
    """Return the path of a cache beside an output: `OUT.ENDING`."""
    return Path(f"standard-output.{ending}") if out == STANDARD else out.with_name(f"{out.name}.{ending}")


def say(text: str, out: Path | None) -> None:
    """Print the report of a command; on standard error if the rows go to standard output."""
    print(text, file=sys.stderr if out == STANDARD else sys.stdout)


def check_record(path: Path, record: Record, where: str) -> None:
    """Raise InputError if `path` is a TSV file and cannot hold the record."""
    if output_type(path)[0] != TSV:
        return
    for name, value in record.items():
        if isinstance(value, str) and not {"\t", "\n", "\r"}.isdisjoint(value):
            raise InputError(
                f"output {path}: {where}: {name!r} holds a tab or a line break, which TSV cannot hold; expected a name "
                "that ends in .csv, .jsonl or .parquet"
            )


def write_records(path: Path, kind: tuple[str, str], records: Iterable[Record], columns: Columns) -> None:
    """Write the records to `path` in a type and compression; a few thousand are in memory at a time.

    Tables have the given columns. An error leaves `path` incomplete: the caller writes to a temporary path.
    """
    suffix, compression = kind
    if suffix == PARQUET:
        _write_parquet(path, records, columns)
        return
    with _compressed(path, compression) as stream:
        if suffix in DELIMITERS:
            with io.TextIOWrapper(stream, "utf-8", newline="") as text:
                _write_table(text, records, list(columns.kinds), DELIMITERS[suffix])
        else:
            _write_lines(stream, suffix, ([json_line(record)[:-1]] for record in records))


def write_objects(path: Path, kind: tuple[str, str], objects: Iterable[Sequence[bytes]]) -> None:
    """Write JSON objects, some at a time, as JSON lines or one array, by the type. Errors as `write_records`."""
    suffix, compression = kind
    with _compressed(path, compression) as stream:
        _write_lines(stream, suffix, objects)


def _write_lines(stream: BinaryIO, suffix: str, objects: Iterable[Sequence[bytes]]) -> None:
    if suffix != ".json":
        stream.writelines(b"\n".join(some) + b"\n" for some in objects if some)
        return
    before = b"[\n"
    for some in objects:
        if some:
            stream.write(before + b",\n".join(some))
            before = b",\n"
    stream.write((b"[" if before == b"[\n" else b"") + b"\n]\n")


def as_text(value: Any) -> str:
    """Return text unchanged, other JSON values as JSON, and any other value (a date, a decimal) as `str` gives it."""
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, bool | int | float | list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()  # half a surrogate pair


def _kind(value: Any) -> str:
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "int" if abs(value) <= EXACT_IN_FLOAT else "long"
    return "other"


@contextmanager
def _compressed(path: Path, compression: str) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if not compression:
            yield raw
            return
        import pyarrow as pa

        # The header of gzip has neither name nor time, so that equal rows give equal bytes.
        with io.BufferedWriter(pa.CompressedOutputStream(raw, COMPRESSIONS[compression])) as stream:
            yield stream


def _write_table(stream: io.TextIOBase, records: Iterable[Record], names: list[str], delimiter: str) -> None:
    rows = (["" if (value := record.get(name)) is None else as_text(value) for name in names] for record in records)
    if delimiter == "\t":
        stream.writelines(f"{delimiter.join(cells)}\n" for cells in [list(map(as_text, names)), *rows])
        return
    plain = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    # With this line terminator, csv does not quote a lone carriage return.
    quoting = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(map(as_text, names))
    for cells in rows:
        (quoting if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _arrow_type(kinds: set[str]) -> "pa.DataType":
    import pyarrow as pa

    if not kinds:
        return pa.string()
    for held, arrow_type in (
        ({"bool"}, pa.bool_()),
        ({"int", "long"}, pa.int64()),
        ({"int", "float"}, pa.float64()),
    ):
        if kinds <= held:
            return arrow_type
    return pa.string()


def _write_parquet(path: Path, records: Iterable[Record], columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: _arrow_type(kinds - {"null"}) for name, kinds in columns.kinds.items()}
    schema = pa.schema([pa.field(as_text(name), kind) for name, kind in types.items()])
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batched(records, ROW_GROUP):
            arrays = [_array([record.get(name) for record in batch], kind) for name, kind in types.items()]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _array(values: list[Any], column_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_string(column_type):
        values = [None if value is None else as_text(value) for value in values]
    return pa.array(values, type=column_type)


def _batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    stream = iter(records)
    while batch := list(islice(stream, size)):
        yield batch
