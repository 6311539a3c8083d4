"""The good rows of a source, kept in the work folder by the survey: read and checked once, then scored by shard.

One Arrow file with a record batch for each shard. It holds what the model reads of a row and, for an output in JSON,
the row itself as JSON, so that the output needs no second reading of the source.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.errors import MachineError
from relevance.storage.files import whole_file
from training.data.files.json_lines import json_line
from training.data.pair_blocks import PairBlock

PAIR_SCHEMA = pa.schema(
    [("place", pa.int64()), *((name, pa.large_string()) for name in ("query", "candidate", "language"))]
)
RECORD = "record"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class ShardRows(NamedTuple):
    """The rows of a shard: the place of each among all rows of the source, from 0, and its pair."""

    index: int
    places: NDArray[np.int64]
    queries: list[str]
    candidates: list[str]
    languages: list[str]


@dataclass(frozen=True)
class StagedRows:
    """The rows that `staging` kept in a file. Any process that sees the file can read them."""

    path: Path

    def shard(self, index: int) -> ShardRows:
        """Return the rows of a shard. Raises MachineError where they cannot be read."""
        places, *texts = (self._batch(index).column(name) for name in PAIR_SCHEMA.names)
        return ShardRows(index, places.to_numpy(), *(column.to_pylist() for column in texts))

    def records(self, index: int) -> list[bytes]:
        """Return the rows of a shard as JSON objects whose closing brace is left out. Errors as `shard`."""
        found: list[bytes] = self._batch(index).column(RECORD).to_pylist()
        return found

    def _batch(self, index: int) -> pa.RecordBatch:
        try:
            return self._reader.get_batch(index)
        except (OSError, pa.ArrowException) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise MachineError(
                f"{self.path}: cannot be read ({why}); expected the folder of the output on a disk that all nodes share"
            ) from None

    @cached_property
    def _reader(self) -> pa.RecordBatchFileReader:
        return pa.ipc.open_file(pa.OSFile(str(self.path)))


class Staging:
    """Writes the rows of blocks as shards of `size` rows; the last one may be smaller."""

    def __init__(self, writer: pa.RecordBatchFileWriter, size: int, with_records: bool) -> None:
        """Write to an opened writer of `schema_of(with_records)`; use `staging`."""
        self._writer, self._size, self._with_records = writer, size, with_records
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, block: PairBlock) -> None:
        """Add the good rows of a block."""
        columns = [block.places, block.queries, block.candidates, block.languages]
        schema = schema_of(self._with_records)
        if self._with_records:
            columns.append([json_line(record)[:-2] for record in block.records])  # without brace and line feed
        arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        self._rows += len(block.places)
        while self._rows >= self._size:
            self._write(self._size)

    def close(self) -> None:
        """Write the rows that fill no shard."""
        if self._rows:
            self._write(self._rows)

    def _write(self, count: int) -> None:
        whole = pa.Table.from_batches(self._waiting).combine_chunks()
        self._writer.write_table(whole.slice(0, count), max_chunksize=count)
        rest = whole.slice(count)
        self._waiting, self._rows = rest.to_batches(), rest.num_rows


def schema_of(with_records: bool) -> pa.Schema:
    """Return the schema of staged rows."""
    return PAIR_SCHEMA.append(pa.field(RECORD, pa.large_binary())) if with_records else PAIR_SCHEMA


@contextmanager
def staging(path: Path, size: int, *, with_records: bool) -> Iterator[Staging]:
    """Write staged rows to `path`, which appears whole or not at all. MachineError where it cannot be written."""
    with (
        whole_file(path) as beside,
        beside.open("wb") as stream,  # a Python file: its errors name the full disk
        pa.ipc.new_file(stream, schema_of(with_records), options=_OPTIONS) as writer,
    ):
        made = Staging(writer, size, with_records)
        yield made
        made.close()
