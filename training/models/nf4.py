"""Frozen linear layers whose weights are held in 4-bit NormalFloat (NF4, Dettmers et al. 2023), for QLoRA.

Needs the extra `qlora`: bitsandbytes packs and unpacks the weights. Its own layer is not used: on a CPU with AVX-512
BF16, version 0.50.2, it changes its weights and its precision with the first evaluation, and fails in the step after.
Its scales are in fp32; the second quantisation of the paper would save less than a tenth of the packed bytes.
"""

from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale


class NF4Linear(nn.Linear):
    """A linear layer that unpacks its weight for each use. Weight and bias are frozen.

    `weight` is uint8, two weights a byte; `scales` is fp32, one a block.
    """

    scales: Tensor

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [out, in] that the layer computes with."""
        shape = (self.out_features, self.in_features)
        found: Tensor = torch.ops.bitsandbytes.dequantize_4bit(self.weight, self.scales, BLOCK, "nf4", shape, dtype)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return what a linear layer with the unpacked weight returns, [..., out], under autocast too."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        found: Tensor = _Linear.apply(x.to(dtype), self)
        return found


class _Linear(torch.autograd.Function):
    """Unpacks the weight in both passes: autograd would keep it from the first to the second."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return nn.functional.linear(x, layer.unpacked(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        wanted = ctx.needs_input_grad[0]
        return gradient @ ctx.layer.unpacked(gradient.dtype) if wanted else None, None


def pack(layer: nn.Linear) -> None:
    """Make a linear layer an NF4Linear, in place; its weights are rounded to their nearest in NF4."""
    # Heavy, and of an extra; registers its operators with torch.
    import bitsandbytes  # noqa: F401

    packed, scales = torch.ops.bitsandbytes.quantize_4bit(layer.weight.detach(), BLOCK, "nf4", torch.uint8)
    layer.weight = nn.Parameter(packed, requires_grad=False)
    layer.register_buffer("scales", scales, persistent=False)
    layer.__class__ = NF4Linear


def unpack(layer: NF4Linear) -> None:
    """Make an NF4Linear a linear layer with the weights that it computes with, in fp32, in place."""
    layer.weight = nn.Parameter(layer.unpacked(torch.float32), requires_grad=False)
    del layer.scales
    layer.__class__ = nn.Linear


def whole_sizes(model: nn.Module) -> tuple[int, int]:
    """Return how many more parameters, and more bytes, a model has once its layers are unpacked."""
    packed = [module for module in model.modules() if isinstance(module, NF4Linear)]
    numbers = sum(layer.in_features * layer.out_features for layer in packed)
    held = sum(layer.weight.numel() for layer in packed), sum(4 * layer.scales.numel() for layer in packed)
    return numbers - held[0], 4 * numbers - sum(held)
