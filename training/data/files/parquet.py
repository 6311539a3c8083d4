"""Read Parquet files as numbered records. Values that Python or JSON cannot hold become text.

Times in nanoseconds and durations become text. Binary values become text if they are UTF-8, else hexadecimal digits.
A value that cannot be read is a problem of its row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from relevance.errors import InputError
from training.data.fields import Fields
from training.data.files.parts import Part
from training.data.rows import Problem
from training.data.values import HexDigits

BATCH_ROWS = 4096
_SHOWN = 10
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def parquet_blocks(part: Part, fields: Fields) -> Iterator[tuple[int, list[dict[str, Any] | Problem]]]:
    """Yield rows in order, each with its values or the problem that prevents reading them; and the first one's number.

    Rows count from 1.
    """
    number = 0
    try:
        with pq.ParquetFile(part.path) as file:
            fields.check_header(part.name, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield number + 1, list(_batch_rows(batch))
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{part.name}: cannot be read after row {number} ({error}); expected a Parquet file"
        ) from error


def check_parquet(parts: Sequence[Part], fields: Callable[[], Fields]) -> None:
    """Read the ends of Parquet files, where their columns stand, before any row is read.

    Raises InputError that names every file that is damaged at its end or lacks a column, so that a set of many files
    does not fail at its last one. `fields` makes the fields that each has to have.
    """
    faults = []
    for part in parts:
        try:
            with pq.ParquetFile(part.path) as file:
                fields().check_header(part.name, file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            faults.append(f"{part.name}: cannot be read ({error}); expected a Parquet file")
        except InputError as error:
            faults.append(str(error))
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        head = [f"{len(faults)} of {len(parts)} Parquet files cannot be used:"] if len(faults) > 1 else []
        raise InputError("\n  ".join([*head, *faults[:_SHOWN], *more]))


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Problem]:
    names = batch.schema.names
    columns = [_values(column, name) for name, column in zip(names, batch.columns, strict=True)]
    if not any(isinstance(value, Problem) for column in columns for value in column):
        yield from (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
        return
    for values in zip(*columns, strict=True):
        problem = next((value for value in values if isinstance(value, Problem)), None)
        yield problem or dict(zip(names, values, strict=True))


def _values(column: pa.Array, name: str) -> list[Any]:
    """Return the values of a column; a Problem replaces a value that Python cannot hold."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        if not _is_plain(column.type):
            raise ValueError
        return column.to_pylist()
    # Writers do not check strings, and one bad value fails the whole batch: convert one by one.
    except (ValueError, OverflowError, pa.ArrowException):
        return [_value(column[at], name) for at in range(len(column))]


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether `to_pylist` gives plain Python values of a type without loss."""
    if pa.types.is_nested(kind):
        return all(_is_plain(kind.field(at).type) for at in range(kind.num_fields))
    is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not is_binary and not pa.types.is_duration(kind) and getattr(kind, "unit", None) != "ns"


def _value(scalar: pa.Scalar, name: str) -> Any:
    if not scalar.is_valid:
        return None
    try:
        if isinstance(scalar, pa.StructScalar):
            values = {key: _value(item, name) for key, item in scalar.items()}
            return next((value for value in values.values() if isinstance(value, Problem)), values)
        if isinstance(scalar, pa.ListScalar):  # maps too: as lists of pairs
            items = [_value(item, name) for item in scalar.values]
            if pa.types.is_map(scalar.type):
                items = [item if isinstance(item, Problem) else tuple(item.values()) for item in items]
            return next((item for item in items if isinstance(item, Problem)), items)
        if pa.types.is_duration(scalar.type):
            return _seconds(scalar.value, scalar.type.unit)
        if not _is_plain(scalar.type) and pa.types.is_temporal(scalar.type):
            return scalar.cast(pa.string()).as_py()
        found = scalar.as_py()
        return _text(found) if isinstance(found, bytes) else found
    except UnicodeDecodeError as error:
        shown = error.object.decode(errors="backslashreplace")
        return Problem("bad UTF-8", name, shown, f"UTF-8 (byte {error.start} is not)")
    except (ValueError, OverflowError, pa.ArrowException) as error:
        found = getattr(scalar, "value", None)  # printing the scalar itself would fail
        return Problem("unreadable value", name, found, f"a value of {scalar.type} in Python's range ({error})")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return HexDigits(value.hex())


def _seconds(count: int, unit: str) -> str:
    """Return a duration in seconds, with as many digits as its unit has, as `1.500 s`."""
    scale = _UNITS[unit]
    whole, part = divmod(abs(count), scale)
    digits = f".{part:0{len(str(scale)) - 1}d}" if scale > 1 else ""
    return f"{'-' if count < 0 else ''}{whole}{digits} s"
