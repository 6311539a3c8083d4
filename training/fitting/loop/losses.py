"""The loss of a batch: cross-entropy on soft targets, and terms that compare rows of one query.

All functions take logits [B] of any scale, targets [B] in [0, 1], weights [B] and the query number [B] of each row.
A query whose rows all have one target has no order and adds nothing to ranking terms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
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
    """Return the loss that the recipe asks for. Label smoothing applies to the cross-entropy alone."""
    smooth = section.label_smoothing
    targets = goals.targets * (1 - smooth) + smooth / 2
    loss = binary_cross_entropy_with_logits(logits, targets, weight=goals.weights)
    if section.ranking != "none" and goals.queries is not None:
        term = RANKING[section.ranking](logits, goals.targets, goals.weights, goals.queries)
        loss = loss + section.ranking_weight * term
    if goals.teacher is not None and goals.queries is not None:
        loss = loss + section.teacher_weight * margin_mse(logits, goals.teacher, goals.weights, goals.queries)
    return loss


def ranknet(logits: Tensor, targets: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return the mean logistic loss of pairs of rows of a query in which the first has the higher target.

    RankNet (Burges et al. 2005). Departures: a pair counts in proportion to the difference of its soft targets and to
    the weights of its rows; pairs of equal targets are left out.
    """
    return _mean(softplus(-_margins(logits)), _preferences(targets, weights, queries))


def lambdarank(logits: Tensor, targets: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return RankNet's loss with each pair weighted by the change of nDCG if its rows changed places.

    LambdaRank (Burges 2010) as a loss, as in the LambdaLoss framework (Wang et al. 2018). Gains are the targets
    themselves. Ranks are those of the logits among the rows of the query in the batch.
    """
    same = _same(queries)
    with torch.no_grad():
        ranks = _ranks(logits, same)
        ideal = (targets / torch.log2(1 + _ranks(targets, same)) * same).sum(dim=1).clamp(min=1e-9)
        discounts = 1 / torch.log2(1 + ranks)
        changes = (_margins(targets) * _margins(discounts)).abs() / ideal[:, None]
        chosen = _preferences(targets, weights, queries) > 0
        pairs = chosen * changes * weights[:, None] * weights[None, :]
    return _mean(softplus(-_margins(logits)), pairs)


def listnet(logits: Tensor, targets: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return the mean over queries of the cross-entropy between targets and softmax of the logits.

    ListNet's top-one probability (Cao et al. 2007), with targets divided by their sum in place of their softmax, which
    bounds MRR and nDCG (Bruch et al. 2019). A query counts by the mean weight of its rows.
    """
    same = _same(queries)
    wanted = targets * weights
    total = (same * wanted).sum(dim=1)
    logs = logits - logits[None, :].masked_fill(~same, -torch.inf).logsumexp(dim=1)
    has_order = (_preferences(targets, torch.ones_like(weights), queries).amax(dim=1)[None, :] * same).amax(dim=1) > 0
    sizes = same.sum(dim=1)
    means = (same * weights).sum(dim=1) / sizes
    terms = -means * wanted / total.clamp(min=1e-9) * logs
    lists = (has_order / sizes).sum().clamp(min=1)
    return torch.where(has_order, terms, 0.0).sum() / lists


def margin_mse(logits: Tensor, teacher: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return the mean squared difference between the margins of the model and of a teacher, over pairs of a query.

    Margin-MSE (Hofstaetter et al. 2020). Departure: all pairs of rows of a query count, not only those of a positive
    and a negative, so that queries whose rows all have one label teach too.
    """
    pairs = (_same(queries) * weights[:, None] * weights[None, :]).triu(diagonal=1)
    return _mean((_margins(logits) - _margins(teacher)) ** 2, pairs)


RANKING: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "ranknet": ranknet,
    "lambdarank": lambdarank,
    "listnet": listnet,
}


def column(values: Sequence[float] | Sequence[int], rows: Sequence[int], device: torch.device) -> Tensor | None:
    """Return the values of some rows as a tensor [B]; None where there are none."""
    return torch.tensor([values[i] for i in rows], device=device) if len(values) else None


def _same(queries: Tensor) -> Tensor:
    return queries[:, None] == queries[None, :]


def _margins(values: Tensor) -> Tensor:
    return values[:, None] - values[None, :]


def _preferences(targets: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
    """Return by how much the first row of each pair [B, B] of a query is better, times both weights; else 0."""
    return _margins(targets).clamp(min=0) * _same(queries) * weights[:, None] * weights[None, :]


def _ranks(values: Tensor, same: Tensor) -> Tensor:
    """Return the rank [B] of each value in its query, from 1; the earlier of equals goes first."""
    earlier = torch.ones_like(same).tril(diagonal=-1)
    ahead = (values[None, :] > values[:, None]) | ((values[None, :] == values[:, None]) & earlier)
    return (1 + (ahead & same).sum(dim=1)).to(values.dtype)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / (weights > 0).sum().clamp(min=1)
