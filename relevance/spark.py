"""Scores the rows of a Spark data frame: `scored`, over `DataFrame.mapInArrow`.

Knows data frames as PySpark hands them over, and Arrow batches on the executors. Imports no Spark: the program that
calls it has one, and nothing else needs it.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance.errors import BundleError
from relevance.model.bundle import Bundle
from relevance.model.session import Device
from relevance.scorer import BatchScorer, Columns

KINDS = ("double", "long", "boolean", "string")  # of the added columns, in Spark's words


@dataclass(frozen=True, slots=True)
class _Job:
    """What a task does: which bundle, by its digest, which columns, and how the bundle is opened."""

    bundle: str
    digest: str
    columns: tuple[tuple[str, str], ...]
    prefix: str
    options: tuple[int, Device, int | None]


def scored(
    rows: Any,
    bundle: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    prefix: str = "",
    threads: int = 1,
    device: Device = "auto",
) -> Any:
    """Return a data frame of the rows of another one and four more columns. Spark scores them when they are asked for.

    ```python
    scored(spark.read.parquet("/shared/rows"), "/shared/bundle").write.parquet("/shared/scored")
    ```

    The columns are `score`, double in [0, 1], `label_predicted`, long, `truncated`, boolean, and `model_version`. Each
    Python worker of an executor opens the bundle once, from the same path as here; pairs run sorted by length inside an
    Arrow batch. `columns` and `prefix` are those of `relevance.ray.BundleScorer`; `threads` should be
    `spark.task.cpus`.

    Raises BundleError for a damaged bundle, ConfigError for an unknown key of `columns`, and InputError for a column
    that is missing or there already. A blank query or candidate, and a bundle that differs on an executor, end the job
    with the text of their error.
    """
    opened = Bundle.open(Path(bundle).absolute())
    given = columns or {}
    names = Columns(opened.manifest.task, given, prefix)
    names.read_of(rows.columns)
    schema = copy.deepcopy(rows.schema)
    for name, kind in zip(names.added, KINDS, strict=True):
        schema = schema.add(name, kind)
    job = _Job(
        str(opened.folder), opened.manifest.digest, tuple(sorted(given.items())), prefix, (threads, device, None)
    )
    return rows.mapInArrow(functools.partial(_added, job), schema)


def _added(job: _Job, batches: Iterator[Any]) -> Iterator[Any]:
    """Yield Arrow record batches with the added columns. Runs on an executor."""
    for batch in batches:
        scorer = _opened(job)
        read = scorer.columns.read_of(batch.schema.names)
        texts = {field: batch.column(name).to_pylist() for field, name in read.items()}
        for name, values in scorer.added(texts).items():
            batch = batch.append_column(name, values)
        yield batch


@functools.lru_cache(maxsize=2)  # Spark keeps a worker for further tasks, also of other data frames
def _opened(job: _Job) -> BatchScorer:
    scorer = BatchScorer.open(job.bundle, dict(job.columns), job.prefix, job.options)
    if scorer.scorer.manifest.digest != job.digest:
        raise BundleError(f"bundle {job.bundle}: differs on an executor from the one of the driver")
    return scorer
