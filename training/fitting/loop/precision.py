"""Which number format a run multiplies matrices in. Weights, gradients' sums and the optimiser stay in fp32."""

import logging
from pathlib import Path
from typing import Literal

import torch

from relevance.model.cores import CPU_FACTS, cpu_flags

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]

# x86 (AVX-512 BF16, AMX) and Arm flags of processors that multiply bf16 numbers themselves. The others imitate it,
# slower than fp32.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# Architectures whose code fails in 16 bits: DeBERTa (not v2, v3) fills masked scores with the least fp32 number.
FP32_ONLY = frozenset({"deberta"})


def training_device() -> torch.device:
    """Return where a run trains: on the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(asked: Literal["auto"] | Precision, device: torch.device, family: str = "") -> Precision:
    """Return the precision of a run: that asked for, or the fastest on this machine.

    `auto` is bf16 where the GPU or the processor multiplies it, else fp16 on a GPU and fp32 on a CPU. `family` is the
    model's architecture (`model_type`): some train in fp32 only, whatever is asked.
    """
    if family in FP32_ONLY:
        if asked not in ("auto", "fp32"):
            log.warning("precision %s: architecture %s trains in fp32 only", asked, family)
        return "fp32"
    if device.type == "cuda":
        automatic: Precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    else:
        automatic = "bf16" if has_bf16() else "fp32"
        if asked == "fp16":
            log.info("precision fp16 needs a GPU; training in %s", automatic)
            return automatic
    return automatic if asked == "auto" else asked


def has_bf16(cpu_facts: Path = CPU_FACTS) -> bool:
    """Whether this machine's processor multiplies bf16 numbers; False where the system does not tell."""
    return not BF16_FLAGS.isdisjoint(cpu_flags(cpu_facts))
