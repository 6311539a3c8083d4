"""Writes the output of a scoring run: every good row as it was read, and its scores."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.storage.files import whole_file
from training.data.files.parts import DELIMITERS, PARQUET
from training.data.files.writers import Columns, output_type, write_objects, write_records
from training.scoring.input import Source
from training.scoring.joined import write_joined
from training.scoring.options import ScoreOptions
from training.scoring.shards import Scored, Shards


def needs_records(out: Path, options: ScoreOptions) -> bool:
    """Return whether an output is made from staged rows in JSON, not from a second reading of the source."""
    suffix = output_type(out)[0]
    # A row whose text fits no UTF-8 is written in ASCII alone, names included: the two parts of a line must agree.
    return suffix != PARQUET and suffix not in DELIMITERS and options.prefix.isascii()


def write_output(path: Path, out: Path, shards: Shards, columns: Columns, options: ScoreOptions) -> Counter[str]:
    """Write the output of the type of `out` to `path`; return how many rows are positive, truncated and undecided."""
    counts: Counter[str] = Counter()
    version = shards.runner.model.version
    kind = output_type(out)

    def added(scored: Scored) -> dict[str, Any]:
        return dict(zip(options.added, (scored.score, scored.label, scored.truncated, version), strict=True))

    for _, kept in shards.finished():
        counts["positive"] += int(kept["label"].sum())
        counts["truncated"] += int(kept["truncated"].sum())
        counts["undecided"] += int(kept["undecided"].sum())
    with whole_file(path) as beside:
        if is_joined(out, shards.source):
            write_joined(beside, shards.source, _columns(shards, options))
        elif needs_records(out, options):
            write_objects(beside, kind, _objects(shards, options))
        else:
            columns.see(added(Scored(0, 0.5, 1, True)))
            write_records(beside, kind, (record | added(scored) for scored, record in shards.records()), columns)
    return counts


def is_joined(out: Path, source: Source) -> bool:
    """Return whether the output keeps the types of the source: Parquet to Parquet."""
    return output_type(out)[0] == PARQUET and source.is_parquet


def _objects(shards: Shards, options: ScoreOptions) -> Iterator[list[bytes]]:
    """Yield the rows of each shard as JSON objects, as `json_line` would write record and scores together."""
    score, label, truncated, version = (json.dumps(name) for name in options.added)
    head = f", {score}: ".encode()
    tails = [
        f", {label}: {one}, {truncated}: {cut}, {version}: {json.dumps(shards.runner.model.version)}}}".encode()
        for one in (0, 1)
        for cut in ("false", "true")
    ]
    for index, kept in shards.finished():
        rows = zip(shards.staged.records(index), kept["score"].tolist(), _tail(kept), strict=True)
        yield [b"%b%b%a%b" % (record, head, value, tails[tail]) for record, value, tail in rows]


def _tail(kept: NDArray[np.void]) -> list[int]:
    """Return the place of each row's tail: label, then truncated."""
    found: list[int] = (kept["label"] * 2 + kept["truncated"]).tolist()
    return found


def _columns(shards: Shards, options: ScoreOptions) -> Iterator[pa.RecordBatch]:
    """Yield place, score, label, truncated and version of the rows of each shard."""
    for _, kept in shards.finished():
        version = pa.array([shards.runner.model.version] * len(kept), pa.string())
        arrays = [pa.array(kept[name]) for name in ("place", "score", "label", "truncated")]
        arrays[2] = arrays[2].cast(pa.int64())
        yield pa.RecordBatch.from_arrays([*arrays, version], names=["place", *options.added])
