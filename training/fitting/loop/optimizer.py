"""The optimiser of fine-tuning: AdamW, and a lazy Adam for the rows of the word embeddings."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from relevance.model.heads import HeadKind
from training.fitting.loop.team import ALONE, Team
from training.fitting.recipe import TrainingSection
from training.models.cross_encoder import CrossEncoder
from training.models.used_rows import UsedRows

MOST_GRADIENT_NORM = 1.0


class Optimizer:
    """Takes one step a batch: gradients clipped to a norm of 1, AdamW (Loshchilov and Hutter 2019), and Adam for rows.

    Word embeddings have a gradient for the batch's rows only. Adam moves these rows and leaves the others (torch's
    SparseAdam), so a step does not read millions of weights that it does not change. They have no weight decay.
    """

    def __init__(
        self,
        model: CrossEncoder,
        section: TrainingSection,
        precision: str,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        dense, sparse = parameter_groups(model, section)
        self._team, self._dense, self._sparse = team, *map(_members, (dense, sparse))
        self._optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(dense, fused=True)]
        self._optimizers += [torch.optim.SparseAdam(sparse)] if sparse else []
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, losses: Iterable[Tensor]) -> float:
        """Move the weights along the gradient of the losses' sum; return the gradient's norm before it is clipped.

        The losses of all processes of the team count. Each loss is released before the next is drawn, so a generator
        needs the memory of one alone.
        """
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            self._scaler.scale(loss).backward()
            del loss
        self._team.sum_gradients(self._dense, self._sparse)
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
        norm = clip_gradients([*self._dense, *self._sparse])
        for optimizer in self._optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        return norm

    def set_rate(self, factor: float) -> None:
        """Set every learning rate to `factor` times its highest."""
        for group in self._groups():
            group["lr"] = group["peak_lr"] * factor

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs."""
        return {"optimizers": [each.state_dict() for each in self._optimizers], "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        for optimizer, found in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(found)
        self._scaler.load_state_dict(state["scaler"])

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self._optimizers:
            yield from optimizer.param_groups


def _members(groups: Iterable[dict[str, Any]]) -> list[Tensor]:
    return [parameter for group in groups for parameter in group["params"]]


def clip_gradients(parameters: list[Tensor], most: float = MOST_GRADIENT_NORM) -> float:
    """Scale the gradients of all parameters in place to a norm of at most `most`; return the norm that they had."""
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values))))
    if norm > most:
        torch._foreach_mul_(values, most / (norm + 1e-6))
    return norm


def parameter_groups(
    model: CrossEncoder, section: TrainingSection
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the groups of dense parameters, and of those with sparse gradients, each with its highest rate.

    The head has a rate of its own, unless it is pretrained (yes_no). Weight decay is for matrices only.
    """
    dense: dict[tuple[float, float], list[Tensor]] = {}
    sparse: list[dict[str, Any]] = []
    words = model.encoder.get_input_embeddings()
    is_pretrained = _pretrained(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = section.learning_rate if is_pretrained(name) else section.head_learning_rate
        if isinstance(words, UsedRows) and parameter is words.weight:
            sparse.append({"params": [parameter], "lr": rate, "peak_lr": rate})
            continue
        decay = section.weight_decay if parameter.dim() > 1 else 0.0
        dense.setdefault((rate, decay), []).append(parameter)
    groups = [
        {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), members in dense.items()
    ]
    return groups, sparse


def _pretrained(model: CrossEncoder) -> Callable[[str], bool]:
    """Return whether a parameter of this name comes from the base model; all of a yes_no head does."""
    if model.spec.kind is HeadKind.YES_NO:
        return lambda name: True
    prefix = f"encoder.{model.encoder.base_model_prefix}." if model.spec.kind is HeadKind.STOCK else "encoder."
    return lambda name: name.startswith(prefix)
