"""Stops a run whose weights have left the finite numbers or whose scores have collapsed, and says what to try."""

import logging
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.errors import DivergedError

log = logging.getLogger(__name__)

LEAST_SPREAD = 1e-4  # standard deviation of dev logits below which scores are all alike [logits],
LEAST_SPREAD_SHARE = 0.01  # or below this share of the widest evaluation of the run
LEAST_GRADIENT = 1e-7  # norm below which a gradient moves nothing
LEAST_GRADIENT_STEPS = 20  # so many steps in a row
CHANCE_ERRORS = 2.0  # an AUC is at chance within so many standard errors of .5,
CLEAR_ERRORS = 6.0  # and clearly above it from so many on
TRY = "lower training.learning_rate (a third), or raise training.warmup_share"


class Guard:
    """Watches a run's losses, gradient norms and evaluations. Checks raise DivergedError: the cause, and `advice`."""

    def __init__(self, advice: str = TRY) -> None:
        self.advice = advice
        self.still = 0  # steps in a row without a gradient
        self.widest = 0.0  # largest standard deviation of dev logits yet

    def after_step(self, step: int, loss: float, norm: float) -> None:
        """Check the loss and the norm of the gradient of a step."""
        if not math.isfinite(loss):
            raise DivergedError(f"training loss {loss} at step {step}: expected a finite number; {self.advice}")
        self.still = self.still + 1 if norm < LEAST_GRADIENT else 0
        if self.still >= LEAST_GRADIENT_STEPS:
            raise DivergedError(
                f"step {step}: the gradient's norm is {norm:.1g}, for {self.still} steps in a row, so nothing is "
                f"learnt any more; {self.advice}"
            )

    def after_evaluation(self, step: int, logits: NDArray[np.float32], aucs: Sequence[float], error: float) -> None:
        """Check the dev logits of a step, and the AUC of all evaluations up to it; `error` is that of chance."""
        if not np.isfinite(logits).all():
            raise DivergedError(f"dev logits after step {step} are not finite; {self.advice}")
        spread = float(logits.std())
        self.widest = max(self.widest, spread)
        if len(logits) > 1 and spread < max(LEAST_SPREAD, LEAST_SPREAD_SHARE * self.widest):
            raise DivergedError(
                f"step {step}: all dev rows have nearly the same score (their logits' standard deviation is "
                f"{spread:.1g}): the run has collapsed; {self.advice}"
            )
        best = max(aucs)
        if best - 0.5 > CLEAR_ERRORS * error and aucs[-1] - 0.5 < CHANCE_ERRORS * error:
            raise DivergedError(
                f"step {step}: dev AUC {aucs[-1]:.3f} is that of chance, and was {best:.3f} before: the run has "
                f"collapsed; {self.advice}"
            )


def chance_error(labels: Sequence[int]) -> float:
    """Return the standard error of the AUC of random scores, by the rank sum (Mann and Whitney 1947)."""
    positive = sum(labels)
    negative = len(labels) - positive
    return math.sqrt((len(labels) + 1) / (12 * positive * negative)) if positive and negative else math.inf
