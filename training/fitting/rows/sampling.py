"""Which rows each batch holds: any rows of similar length, or, for losses within a query, the rows of a query together.

Pure functions, which a resumed run repeats.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.fitting.recipe import TrainingSection

Rows = NDArray[np.integer]
_EPOCH_SEEDS = 7919  # difference of the seeds of two epochs


def training_batches(lengths: Rows, queries: Rows, section: TrainingSection, seed: int) -> list[Rows]:
    """Return the batches of row numbers of a whole run, from the lengths [N] of the rows in tokens; 0 epochs: none.

    Rows of one query have one number in `queries` [N], which only losses within queries need.
    """
    if not section.epochs:
        return []
    epochs = math.ceil(section.epochs)
    made = [
        batch for epoch in range(epochs) for batch in _epoch(lengths, queries, section, seed + _EPOCH_SEEDS * epoch)
    ]
    return made[: max(1, round(len(made) * section.epochs / epochs))]


def length_grouped_batches(lengths: Rows, batch_size: int, seed: int, window: int = 32) -> list[Rows]:
    """Return one epoch's batches of row numbers: every row once, rows of similar length together.

    Rows are shuffled and cut into windows of `window` batches. Each window is sorted by length and cut into batches,
    and the batches are shuffled. So there is little padding, and every epoch mixes the rows differently.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths)).astype(np.int32)  # half the memory of the whole run's batches
    span = window * batch_size
    batches: list[Rows] = []
    for start in range(0, len(order), span):
        part = order[start : start + span]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def query_batches(
    queries: Sequence[Rows], lengths: Rows, batch_size: int, rng: np.random.Generator, window: int = 32
) -> list[Rows]:
    """Return batches that hold the rows of each query together; a query of more rows than a batch is divided evenly.

    Queries are shuffled and cut into windows of some `window` batches. Within a window they are sorted by their longest
    row, so that there is little padding. Batches are shuffled, and may hold fewer than `batch_size` rows.
    """
    parts = [
        part for rows in queries for part in np.array_split(rng.permutation(rows), math.ceil(len(rows) / batch_size))
    ]
    parts = [parts[i] for i in rng.permutation(len(parts))]
    sizes = np.array([len(part) for part in parts])
    windows = (np.cumsum(sizes) - sizes) // (window * batch_size)
    longest = np.array([lengths[part].max() for part in parts])
    batches: list[list[Rows]] = []
    count = 0  # rows of the last batch
    for at in np.lexsort((-longest, windows)):
        if not batches or count + sizes[at] > batch_size:
            batches.append([])
            count = 0
        batches[-1].append(parts[at])
        count += sizes[at]
    return [np.concatenate(batches[i]).astype(np.int32) for i in rng.permutation(len(batches))]


def _epoch(lengths: Rows, queries: Rows, section: TrainingSection, seed: int) -> list[Rows]:
    if not section.within_queries:
        return length_grouped_batches(lengths, section.batch_size, seed)
    units = np.split(np.argsort(queries, kind="stable"), np.cumsum(np.bincount(queries))[:-1])
    rng = np.random.default_rng([seed, 1])  # not the numbers that length_grouped_batches draws
    return query_batches(units, lengths, section.batch_size, rng)
