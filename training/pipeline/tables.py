"""Labelled pairs as Parquet files: the same rows give the same bytes. `read_pairs` of other commands reads them too."""

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from relevance.errors import InputError
from relevance.storage.files import whole_file
from relevance.tasks import LabeledPair, Task
from training.data.files.columns import QUERY_FIELD
from training.data.stored.batches import SCHEMA, resized
from training.data.stored.rows import StoredRows, batches_of

_ROW_GROUP = 16_384


def write_rows(path: Path, rows: Sequence[LabeledPair], task: Task) -> None:
    """Write rows whole or not at all. Further fields of a row stand as a JSON object in the column `extra`.

    InputError for an id that is no text.
    """
    schema = _schema(task)
    how = {"compression": "zstd", "write_page_checksum": True}
    with whole_file(path) as beside, pq.ParquetWriter(beside, schema, **how) as writer:
        for batch in resized(batches_of(rows), _ROW_GROUP):
            try:
                ids = batch.column("id").cast(pa.string())
            except pa.ArrowInvalid as error:
                raise InputError(f"{path.name}: an id is no text ({error}); expected ids in Unicode") from None
            writer.write_batch(pa.RecordBatch.from_arrays([ids, *batch.columns[1:]], schema=schema))


def open_rows(path: Path, task: Task) -> StoredRows:
    """Return what `write_rows` wrote; each row group is read when it is gone through.

    InputError where the file is damaged or of another kind, when it is opened or when the damaged part is reached.
    """
    with _faults(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        names = _schema(task).names
        if missing := sorted({*names} - {*file.schema_arrow.names}):
            raise KeyError(f"no column {', '.join(missing)}")

    def load(number: int) -> pa.RecordBatch:
        with _faults(path):
            table = file.read_row_group(number, columns=names).select(names).combine_chunks()
            columns = [
                table.column(name).combine_chunks().cast(field.type) for name, field in zip(names, SCHEMA, strict=True)
            ]
            return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    rows = StoredRows(groups, load)
    weakref.finalize(rows, file.close)
    return rows


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected rows of a pipeline stage") from None


def _schema(task: Task) -> pa.Schema:
    text = pa.string()
    return pa.schema(
        [
            pa.field("id", text),
            pa.field("language", text),
            pa.field(QUERY_FIELD, text),
            pa.field(task.candidate_field, text),
            pa.field("label", pa.int8()),
            pa.field("extra", text),
        ]
    )
