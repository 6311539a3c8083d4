"""The rows of each batch, the learning rate, the evaluation steps: pure functions, which a resumed run repeats."""

import math
from collections.abc import Sequence

import numpy as np


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


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Return the factor of the learning rate at a step: a linear rise over the warm-up, then a linear fall to zero."""
    warmup = math.ceil(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps after which the dev set is scored: evenly spaced, and always the last one."""
    return {math.ceil(steps * i / evaluations) for i in range(1, evaluations + 1)}
