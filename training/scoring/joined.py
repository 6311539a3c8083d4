"""Parquet to Parquet: the good rows of a source with their own types, and the added columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevance.errors import InputError
from training.data.files.parts import parts_of
from training.data.files.writers import ROW_GROUP
from training.scoring.input import Source


def write_joined(path: Path, source: Source, added: Iterator[pa.RecordBatch]) -> None:
    """Write rows of a source with further columns: those of `added`, whose first one has the places of the rows.

    The places rise. The files of the source have equal columns, see `check_same_columns`.
    """
    writer: pq.ParquetWriter | None = None
    waiting = next(added, None)
    start = 0
    try:
        for rows in _batches(source):
            further, places = [], []
            while waiting is not None and waiting.num_rows:
                count = int(np.searchsorted(waiting.column(0).to_numpy(), start + rows.num_rows))
                places.append(waiting.column(0)[:count].to_numpy() - start)
                further.append(waiting.slice(0, count))
                waiting = waiting.slice(count)
                if waiting.num_rows:
                    break
                waiting = next(added, None)
            start += rows.num_rows
            chosen = pa.Table.from_batches(further).remove_column(0) if further else None
            if chosen is None or not chosen.num_rows:
                continue
            kept = pa.Table.from_batches([rows.take(pa.array(np.concatenate(places)))])
            whole = pa.table([*kept.columns, *chosen.columns], schema=pa.schema([*kept.schema, *chosen.schema]))
            writer = writer or pq.ParquetWriter(path, whole.schema)
            writer.write_table(whole.combine_chunks())
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
