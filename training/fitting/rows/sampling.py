"""Which rows each batch holds: caps on queries, languages in balance, rows of a query together.

Pure functions, which a resumed run repeats. Without these switches a batch holds any rows of similar length.
"""

import math
from collections.abc import Mapping, Sequence

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


def language_quotas(counts: Mapping[str, int], temperature: float) -> dict[str, int]:
    """Return the number of rows to draw of each language, in all as many as there are.

    The share of a language is proportional to its rows to the power of 1 / temperature, as for mBERT and mT5 (Xue et
    al. 2021, section 3.1: exponent .3, a temperature of 3.3; XLM-R likewise). 1 leaves the counts as they are; a high
    temperature makes languages equal.
    """
    total = sum(counts.values())
    powers = np.array(list(counts.values()), dtype=np.float64) ** (1 / temperature)
    wanted = powers / powers.sum() * total
    quotas = np.floor(wanted).astype(int)
    quotas[np.argsort(quotas - wanted, kind="stable")[: total - int(quotas.sum())]] += 1  # largest remainders
    return dict(zip(counts, quotas.tolist(), strict=True))


def balanced(languages: Sequence[str], temperature: float, rng: np.random.Generator) -> Rows:
    """Return numbers [N] of rows drawn by `language_quotas`.

    A row is repeated only if all rows of its language are drawn as often or once less.
    """
    names, of = np.unique(np.asarray(languages), return_inverse=True)
    counts = dict(zip(names.tolist(), np.bincount(of).tolist(), strict=True))
    drawn = []
    for number, quota in enumerate(language_quotas(counts, temperature).values()):
        members = np.flatnonzero(of == number)
        times, rest = divmod(quota, len(members))
        drawn += [np.tile(members, times), rng.choice(members, rest, replace=False)]
    return np.sort(np.concatenate(drawn))


def capped(queries: Sequence[int], most: int, rng: np.random.Generator) -> Rows:
    """Return numbers of rows, at most `most` of each query [N], drawn at random."""
    order = rng.permutation(len(queries))
    order = order[np.argsort(np.asarray(queries)[order], kind="stable")]
    _, begins, counts = np.unique(np.asarray(queries)[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(begins, counts)  # of each row among those of its query
    return np.sort(order[place < most])


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
    rng = np.random.default_rng([seed, 1])  # not the numbers that length_grouped_batches draws
    rows = np.arange(len(lengths))
    if section.max_query_rows:
        rows = capped(facts.queries, section.max_query_rows, rng)
    if section.within_queries:
        _, of = np.unique(np.asarray(facts.queries)[rows], return_inverse=True)
        units = np.split(rows[np.argsort(of, kind="stable")], np.cumsum(np.bincount(of))[:-1])
        if section.language_temperature > 1:
            names = [facts.languages[unit[0]] for unit in units]
            units = [units[i] for i in balanced(names, section.language_temperature, rng)]
        return query_batches(units, lengths, section.batch_size, rng)
    if section.language_temperature > 1:
        rows = rows[balanced([facts.languages[i] for i in rows], section.language_temperature, rng)]
    batches = length_grouped_batches([lengths[i] for i in rows], section.batch_size, seed)
    return [rows[batch].tolist() for batch in batches]
