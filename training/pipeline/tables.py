"""Labelled pairs as Parquet files: the same rows give the same bytes. `read_pairs` of other commands reads them too."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from relevance.errors import InputError
from relevance.storage.files import whole_file
from relevance.tasks import LabeledPair, Pair, Task
from training.data.fields import QUERY_FIELD

_ROW_GROUP = 16_384
_EXTRA = "extra"


def write_rows(path: Path, rows: Sequence[LabeledPair], task: Task) -> None:
    """Write rows whole or not at all. Further fields of a row stand as a JSON object in the column `extra`."""
    schema = _schema(task)
    with whole_file(path) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _ROW_GROUP):
            part = rows[start : start + _ROW_GROUP]
            columns = [
                [row.id for row in part],
                [row.pair.language for row in part],
                [row.pair.query for row in part],
                [row.pair.candidate for row in part],
                [row.label for row in part],
                [json.dumps(row.extra, ensure_ascii=False, default=str) if row.extra else None for row in part],
            ]
            arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def read_rows(path: Path, task: Task) -> list[LabeledPair]:
    """Read what `write_rows` wrote. InputError where the file is damaged or of another kind."""
    rows: list[LabeledPair] = []
    names = _schema(task).names
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROW_GROUP, columns=names):
                for key, language, query, candidate, label, extra in zip(
                    *(batch.column(name).to_pylist() for name in names), strict=True
                ):
                    fields = json.loads(extra) if extra else {}
                    rows.append(LabeledPair(Pair(query, candidate, language), label, key, fields))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected rows of a pipeline stage") from None
    return rows


def _schema(task: Task) -> pa.Schema:
    text = pa.string()
    return pa.schema(
        [
            pa.field("id", text),
            pa.field("language", text),
            pa.field(QUERY_FIELD, text),
            pa.field(task.candidate_field, text),
            pa.field("label", pa.int8()),
            pa.field(_EXTRA, text),
        ]
    )
