"""Records with any fields, written as JSON lines, CSV, TSV or Parquet. Knows nothing of what the fields mean.

JSON lines keep every value. A table cell holds text, a number or a truth value; whatever a table cannot hold as it is
(lists, objects, columns of mixed types, whole numbers beyond 64 bits) becomes its JSON text. Parquet to Parquet keeps
the file's own types.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevance.errors import InputError
from training.jsonlines import write_json_lines
from training.rows import listed

if TYPE_CHECKING:
    import pyarrow as pa

Record = Mapping[str, Any]
JSON_LINES = frozenset({".jsonl", ".txt"})
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
_KINDS = {type(None): "null", bool: "bool", float: "float", str: "text"}
ROW_GROUP = 16_384
EXACT_IN_FLOAT = 2**53  # a larger whole number may change when it becomes a float


@dataclass(frozen=True)
class Columns:
    """The columns of a table, in the order of their first record, and the kinds of value that each holds."""

    kinds: dict[str, set[str]] = field(default_factory=dict)

    def see(self, record: Record) -> None:
        """Take note of a record's columns and values."""
        for name, value in record.items():
            kind = _KINDS.get(type(value)) or _kind(value)
            if kind not in self.kinds.setdefault(name, set()):
                self.kinds[name].add(kind)


def file_type(path: Path) -> str:
    """Return the suffix that says what `path` is written as. InputError where it is not one of those known."""
    suffix = path.suffix.lower()
    known = {*JSON_LINES, *DELIMITERS, PARQUET}
    if suffix not in known:
        raise InputError(f"output {path}: unknown file type {path.suffix!r}; expected one of {listed(sorted(known))}")
    return suffix


def write_records(path: Path, suffix: str, records: Iterable[Record], columns: Columns, source: Path) -> None:
    """Write the records to `path` as the type `suffix`, holding a few thousand at a time.

    Tables have the columns given; Parquet takes the types of those that `source` has from there if it is Parquet too.
    `path` may be left incomplete by an error: the caller renames it when it is whole.
    """
    if suffix in JSON_LINES:
        write_json_lines(path, records)
    elif suffix == PARQUET:
        _write_parquet(path, records, _types(columns, source))
    else:
        _write_table(path, records, list(columns.kinds), DELIMITERS[suffix])


def as_text(value: Any) -> str:
    """Return text as it is, other JSON values as JSON, and any other value (a date, a decimal) as Python shows it."""
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


def _write_table(path: Path, records: Iterable[Record], names: list[str], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        plain = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        # With this line end, csv does not see that a lone carriage return needs quotes.
        quoting = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(map(as_text, names))
        for record in records:
            cells = ["" if (value := record.get(name)) is None else as_text(value) for name in names]
            (quoting if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _types(columns: Columns, source: Path) -> "dict[str, pa.Field]":
    """Return the Parquet field of every column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = pq.read_schema(source) if source.suffix.lower() == PARQUET else pa.schema([])
    fields = {column.name: column for column in own}
    for name, kinds in columns.kinds.items():
        if name not in fields:
            fields[name] = pa.field(as_text(name), _arrow_type(kinds - {"null"}))
    return fields


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


def _write_parquet(path: Path, records: Iterable[Record], fields: "dict[str, pa.Field]") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(fields.values()))
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batched(records, ROW_GROUP):
            arrays = [_array([record.get(name) for record in batch], fields[name].type) for name in fields]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _array(values: list[Any], column_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_string(column_type) or pa.types.is_large_string(column_type):
        values = [None if value is None else as_text(value) for value in values]
    return pa.array(values, type=column_type)


def _batched(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    stream = iter(records)
    while batch := list(islice(stream, size)):
        yield batch
