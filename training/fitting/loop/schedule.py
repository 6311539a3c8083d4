"""The learning rate and the evaluation steps: pure functions, which a resumed run repeats."""

import math


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Return the factor of the learning rate at a step: a linear rise over the warm-up, then a linear fall to zero."""
    warmup = math.ceil(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps after which the dev set is scored: evenly spaced, and always the last one."""
    return {math.ceil(steps * i / evaluations) for i in range(1, evaluations + 1)}
