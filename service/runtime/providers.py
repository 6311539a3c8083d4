"""Chooses onnxruntime's execution providers and their options. Knows no bundles and no scheduling."""

import logging
from dataclasses import dataclass

import onnxruntime

from relevance.errors import MachineError
from relevance.model.session import CUDA_OPTIONS
from service.batch_shape import BatchShape

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

Providers = list[str | tuple[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """The operator's options for a GPU. `shape` is that of the batches a model there gets."""

    shape: BatchShape
    memory_mb: int = 0
    cuda_graphs: bool = False


def providers(device: str, gpu: GpuOptions) -> Providers:
    """Return the providers for `cpu`, `cuda` or `auto`, the preferred one first.

    Raises MachineError if `cuda` is not available.
    """
    available = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise MachineError(f"device cuda: onnxruntime offers {available}; expected the package onnxruntime-gpu")
    if device == "cpu" or CUDA not in available:
        return [CPU]
    onnxruntime.preload_dlls()  # the CUDA and cuDNN libraries of the Python packages, if installed
    return [(CUDA, _cuda_options(gpu)), CPU]


def on_cpu(device: str) -> bool:
    """Return whether models run on the CPU with the device `cpu`, `cuda` or `auto`."""
    return device == "cpu" or (device == "auto" and CUDA not in onnxruntime.get_available_providers())


def device_of(session: onnxruntime.InferenceSession, device: str) -> str:
    """Return where a session runs: `cpu` or `cuda`. Raises MachineError if that is not the requested device."""
    first = session.get_providers()[0]
    if first != CPU:
        return "cuda"
    if device == "cuda":
        raise MachineError("device cuda: onnxruntime could not start CUDA; see its messages above")
    if device == "auto" and CUDA in onnxruntime.get_available_providers():
        log.warning("onnxruntime offers CUDA but could not start it; scoring on the CPU")
    return "cpu"


def _cuda_options(gpu: GpuOptions) -> dict[str, str]:
    options = dict(CUDA_OPTIONS)
    options["arena_extend_strategy"] = "kSameAsRequested"  # grow by what is needed, not to the next power of two
    if gpu.memory_mb:
        options["gpu_mem_limit"] = str(gpu.memory_mb * 1024 * 1024)
    if gpu.cuda_graphs:
        options["enable_cuda_graph"] = "1"
    return options
