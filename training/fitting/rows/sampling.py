"""Which rows each batch holds: any rows of similar length, or, for losses within a query, the rows of a query together.

Pure functions, which a resumed run repeats.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.fitting.recipe import TrainingSection
from training.fitting.rows.row_facts import RowFacts

Rows = NDArray[np.int64]
_EPOCH_SEEDS = 7919  # difference of the seeds of two epochs


def training_batches(lengths: Sequence[int], facts: RowFacts, section: TrainingSection, seed: int) -> list[list[int]]:
    """Return the batches of row numbers of a whole run, from the lengths [N] of the rows in tokens; 0 epochs: none."""
    if not section.epochs:
        return []
    epochs = math.ceil(section.epochs)
    made = [batch for epoch in range(epochs) for batch in _epoch(lengths, facts, section, seed + _EPOCH_SEEDS * epoch)]
    return made[: max(1, round(len(made) * section.epochs / epochs))]


def length_grouped_batches(lengths: Sequence[int], batch_size: int, seed: int, window: int = 32) -> list[list[int]]:
    """Return one epoch's batches of row numbers: every row once, rows of similar length together.

    Rows are shuffled and cut into windows of `window` batches. Each window is sorted by length and cut into batches,
    and the batches are shuffled. So there is little padding, and every epoch mixes the rows differently.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    span = window * batch_size
    batches = []
    for start in range(0, len(order), span):
        part = sorted(order[start : start + span].tolist(), key=lambda i: -lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def query_batches(
    queries: Sequence[Rows], lengths: Sequence[int], batch_size: int, rng: np.random.Generator, window: int = 32
) -> list[list[int]]:
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
    longest = np.array([max(lengths[i] for i in part) for part in parts])
    batches: list[list[int]] = []
    for at in np.lexsort((-longest, windows)):
        if not batches or len(batches[-1]) + sizes[at] > batch_size:
            batches.append([])
        batches[-1] += parts[at].tolist()
    return [batches[i] for i in rng.permutation(len(batches))]


def _epoch(lengths: Sequence[int], facts: RowFacts, section: TrainingSection, seed: int) -> list[list[int]]:
    if not section.within_queries:
        return length_grouped_batches(lengths, section.batch_size, seed)
    queries = np.asarray(facts.queries)
    units = np.split(np.argsort(queries, kind="stable"), np.cumsum(np.bincount(queries))[:-1])
    rng = np.random.default_rng([seed, 1])  # not the numbers that length_grouped_batches draws
    return query_batches(units, lengths, section.batch_size, rng)
