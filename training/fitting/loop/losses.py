"""The loss of a batch: cross-entropy on soft targets, and terms that compare rows of one query.

All functions take logits [B] of any scale, targets [B] in [0, 1], weights [B] and the query number [B] of each row.
A query whose rows all have one target has no order and adds nothing to ranking terms.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from training.fitting.recipe import TrainingSection


@dataclass(frozen=True)
class Goals:
    """What the logits of a batch are held to: targets, weights, query numbers and teacher logits, each [B] or None."""

    targets: Tensor
    weights: Tensor
    queries: Tensor | None = None
    teacher: Tensor | None = None


def batch_loss(logits: Tensor, goals: Goals, section: TrainingSection) -> Tensor:
    """Return the loss that the recipe asks for."""
    loss = binary_cross_entropy_with_logits(logits, goals.targets, weight=goals.weights)
    if section.lambdarank_weight and goals.queries is not None:
        loss = loss + section.lambdarank_weight * lambdarank(logits, goals.targets, goals.weights, goals.queries)
    if goals.teacher is not None and goals.queries is not None:
        loss = loss + section.teacher_weight * margin_mse(logits, goals.teacher, goals.weights, goals.queries)
    return loss


def lambdarank(logits: Tensor, targets: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return the mean logistic loss of pairs of rows of a query, each weighted by the change of nDCG if they swapped.

    LambdaRank (Burges 2010) as a loss, as in the LambdaLoss framework (Wang et al. 2018). Gains are the targets
    themselves. Ranks are those of the logits among the rows of the query in the batch. A pair counts in proportion to
    the weights of its rows; pairs of equal targets are left out.
    """
    same = _same(queries)
    with torch.no_grad():
        ranks = _ranks(logits, same)
        ideal = (targets / torch.log2(1 + _ranks(targets, same)) * same).sum(dim=1).clamp(min=1e-9)
        discounts = 1 / torch.log2(1 + ranks)
        changes = (_margins(targets) * _margins(discounts)).abs() / ideal[:, None]
        better = (_margins(targets) > 0) & same
        pairs = better * changes * weights[:, None] * weights[None, :]
    return _mean(softplus(-_margins(logits)), pairs)


def margin_mse(logits: Tensor, teacher: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return the mean squared difference between the margins of the model and of a teacher, over pairs of a query.

    Margin-MSE (Hofstaetter et al. 2020). Departure: all pairs of rows of a query count, not only those of a positive
    and a negative, so that queries whose rows all have one label teach too.
    """
    pairs = (_same(queries) * weights[:, None] * weights[None, :]).triu(diagonal=1)
    return _mean((_margins(logits) - _margins(teacher)) ** 2, pairs)


def column(values: NDArray[np.generic], rows: NDArray[np.integer], device: torch.device) -> Tensor | None:
    """Return the values of some rows as a tensor [B], in fp32 or int64; None where there are none."""
    return torch.tensor(values[rows].tolist(), device=device) if len(values) else None


def _same(queries: Tensor) -> Tensor:
    return queries[:, None] == queries[None, :]


def _margins(values: Tensor) -> Tensor:
    return values[:, None] - values[None, :]


def _ranks(values: Tensor, same: Tensor) -> Tensor:
    """Return the rank [B] of each value in its query, from 1; the earlier of equals goes first."""
    earlier = torch.ones_like(same).tril(diagonal=-1)
    ahead = (values[None, :] > values[:, None]) | ((values[None, :] == values[:, None]) & earlier)
    return (1 + (ahead & same).sum(dim=1)).to(values.dtype)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / (weights > 0).sum().clamp(min=1)
