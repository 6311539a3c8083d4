"""Which weights a run ends with: those of its best evaluation, or an average."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

EMA_SHARE = 0.2  # the mean age of the averaged weights, in shares of the run's steps
EMA_EVERY = 4  # steps between two updates of the average
LAST = 3  # evaluations whose weights are averaged

Weights = dict[str, Tensor]


class KeptWeights:
    """Keeps weights as `training.average` says, of those that are trained: `weights`, which change under it.

    `none`: those with the best dev AUC. `ema`: an exponential moving average over some fifth of the steps (Polyak and
    Juditsky 1992), which is what evaluations score. `last`: the mean of the last three evaluations (Vaswani et al. 2017
    average their last checkpoints alike).
    """

    def __init__(self, kind: str, weights: Weights, steps: int) -> None:
        self._kind, self._weights = kind, weights
        self._decay = 1 - min(1.0, EMA_EVERY / (EMA_SHARE * steps))
        self._kept = [_copy(weights)] if kind == "ema" else []

    def after_step(self, step: int) -> None:
        """Take the weights of a step, counted from 1, into the moving average."""
        if self._kind == "ema" and step % EMA_EVERY == 0:
            torch._foreach_lerp_([*self._kept[0].values()], [*self._weights.values()], 1 - self._decay)

    def after_evaluation(self, *, best: bool) -> None:
        """Keep the weights of an evaluation; `best` says whether its dev AUC is the highest yet."""
        if self._kind == "last":
            self._kept = [*self._kept, _copy(self._weights)][-LAST:]
        elif self._kind == "none" and best:
            self._kept = [_copy(self._weights)]

    @contextmanager
    def scored(self) -> Iterator[None]:
        """For an evaluation, give the model the weights that it judges: the moving average, or those of the step."""
        if self._kind != "ema":
            yield
            return
        own = _copy(self._weights)
        _load(self._weights, self._kept[0])
        yield
        _load(self._weights, own)

    def load_final(self) -> None:
        """Give the model the weights with which the run ends."""
        mean = {name: torch.stack([each[name] for each in self._kept]).mean(0) for name in self._weights}
        _load(self._weights, mean)

    def state(self) -> list[Weights]:
        """Return what a snapshot needs."""
        return self._kept

    def load(self, state: Any) -> None:
        """Go on from what `state` returned."""
        self._kept = state


def _copy(weights: Weights) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}


@torch.no_grad()
def _load(weights: Weights, values: Weights) -> None:
    for name, value in weights.items():
        value.copy_(values[name])
