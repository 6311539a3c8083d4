"""Parquet to Parquet: the good rows of a source with their own types, and the added columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from relevance.errors import InputError
from training.data.files.parts import parts_of
from training.data.files.writers import ROW_GROUP
from training.scoring.input import Source


def write_joined(path: Path, source: Source, added: Iterator[tuple[int, dict[str, Any]]]) -> None:
    """Write the rows at the places of `added`, in rising order, with its values as further columns.

    The files of the source have equal columns, see `check_same_columns`.
    """
    writer: pq.ParquetWriter | None = None
    waiting = next(added, None)
    start = 0
    try:
        for batch in _batches(source):
            chosen = []
            while waiting and waiting[0] < start + batch.num_rows:
                chosen.append(waiting)
                waiting = next(added, None)
            rows = batch.take(pa.array([place - start for place, _ in chosen], pa.int64()))
            start += batch.num_rows
            if not chosen:
                continue
            further = pa.RecordBatch.from_pylist([values for _, values in chosen])
            schema = pa.schema([*rows.schema, *further.schema])
            writer = writer or pq.ParquetWriter(path, schema)
            writer.write_batch(pa.RecordBatch.from_arrays([*rows.columns, *further.columns], schema=schema))
    finally:
        if writer:
            writer.close()


def check_same_columns(source: Source) -> None:
    """Raise InputError that names the first Parquet file whose columns differ from those of the first one, and how."""
    wanted: pa.Schema | None = None
    for part in parts_of(source.path):
        found = pq.read_schema(part.path).remove_metadata()
        wanted = wanted or found
        if found.equals(wanted):
            continue
        before, after = ({(field.name, str(field.type)) for field in schema} for schema in (wanted, found))
        odd = ", ".join(f"{name}: {kind}" for name, kind in sorted(after - before)) or "the same ones in another order"
        lacking = ", ".join(f"{name}: {kind}" for name, kind in sorted(before - after))
        raise InputError(
            f"{part.name}: its columns differ from those of the files before it: {odd}"
            f"{f'; expected {lacking}' if lacking else ''}; an output in .jsonl takes files of different columns"
        )


def _batches(source: Source) -> Iterator[pa.RecordBatch]:
    for part in parts_of(source.path):
        with pq.ParquetFile(part.path) as file:
            yield from (batch.replace_schema_metadata() for batch in file.iter_batches(batch_size=ROW_GROUP))
