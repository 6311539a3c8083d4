"""Labelled pairs as Arrow record batches and back: Python objects exist for one batch at a time.

Extras stand as one JSON object in the column `extra`: numbers, text, lists and objects come back as they were, tuples
as lists, other values (dates, decimals) as text.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relevance.tasks import LabeledPair, Pair

BATCH_ROWS = 8192
# Ids are bytes, since half a surrogate pair, which JSON can hold, is no UTF-8.
SCHEMA = pa.schema(
    {
        "id": pa.binary(),
        "language": pa.string(),
        "query": pa.string(),
        "candidate": pa.string(),
        "label": pa.int8(),
        "extra": pa.string(),
    }
)
_AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str)
T = TypeVar("T")


def to_batch(rows: Sequence[LabeledPair]) -> pa.RecordBatch:
    """Return rows as one record batch of SCHEMA."""
    columns: list[list[Any]] = [
        [row.id.encode("utf-8", "surrogatepass") for row in rows],
        [row.pair.language for row in rows],
        [row.pair.query for row in rows],
        [row.pair.candidate for row in rows],
        [int(row.label) for row in rows],
        [packed(row.extra) for row in rows],
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def to_rows(batch: pa.RecordBatch) -> list[LabeledPair]:
    """Return the rows of a record batch; columns beside those of SCHEMA do not matter."""
    columns = (batch.column(name).to_pylist() for name in SCHEMA.names)
    return [
        LabeledPair(
            Pair(query, candidate, language),
            label,
            key.decode("utf-8", "surrogatepass"),
            json.loads(extra) if extra else {},
        )
        for key, language, query, candidate, label, extra in zip(*columns, strict=True)
    ]


def packed(extra: dict[str, Any]) -> str | None:
    """Return extras as JSON text; None where there are none."""
    if not extra:
        return None
    text = _AS_JSON.encode(extra)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(extra, default=str)
    return text


def mentions(batch: pa.RecordBatch, name: str) -> NDArray[np.bool_]:
    """Return True [N] for rows whose extras may have a name that contains this one: their JSON text has it."""
    found = pc.fill_null(pc.match_substring(batch.column("extra"), name), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def in_chunks(values: Iterable[T], size: int = BATCH_ROWS) -> Iterator[list[T]]:
    """Yield values in lists of `size`; the last may be shorter."""
    stream = iter(values)
    while chunk := list(islice(stream, size)):
        yield chunk


def resized(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of `rows`; the last may be shorter."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            whole = pa.concat_batches(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_batches(held)
