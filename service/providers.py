"""Which of onnxruntime's execution providers run a model, and what they are told."""

import logging
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from relevance.bundle import Bundle
from relevance.errors import ConfigError, MachineError
from service.batching import Shape
from service.tensorrt import TENSORRT, check_plain, make_room, tensorrt_options

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

Providers = list[str | tuple[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What the operator asks of a GPU; `shape` is that of the batches that a model there will get."""

    shape: Shape
    memory_mb: int = 0
    cuda_graphs: bool = False
    tensorrt_cache: Path | None = None


def providers(bundle: Bundle, device: str, gpu: GpuOptions) -> Providers:
    """Return the providers for `cpu`, `cuda` or `auto`, the preferred one first.

    Raises MachineError where CUDA or TensorRT is asked for and not there, ConfigError where CUDA graphs are as well,
    BundleError where TensorRT cannot run the bundle's graph.
    """
    available = onnxruntime.get_available_providers()
    if gpu.tensorrt_cache and gpu.cuda_graphs:
        raise ConfigError("cuda_graphs and tensorrt_cache: expected one of the two at most")
    if gpu.tensorrt_cache and (device == "cpu" or TENSORRT not in available):
        raise MachineError(
            f"tensorrt_cache {gpu.tensorrt_cache}: device {device}, onnxruntime offers {available}; expected a GPU, "
            f"{TENSORRT} (the package onnxruntime-gpu) and the libraries of TensorRT"
        )
    if device == "cuda" and CUDA not in available:
        raise MachineError(f"device cuda: onnxruntime offers {available}; expected the package onnxruntime-gpu")
    if device == "cpu" or CUDA not in available:
        return [CPU]
    onnxruntime.preload_dlls()  # the CUDA and cuDNN libraries of the Python packages, where they are installed
    found: Providers = [(CUDA, _cuda_options(gpu)), CPU]
    if gpu.tensorrt_cache:
        check_plain(bundle)
        options = tensorrt_options(bundle.manifest, gpu.shape, gpu.tensorrt_cache)
        make_room(options)
        found.insert(0, (TENSORRT, options))
    return found


def device_of(session: onnxruntime.InferenceSession, device: str, gpu: GpuOptions) -> str:
    """Return `cpu` or `cuda`, where a session has come to run. Raises MachineError where that is not what was asked."""
    first = session.get_providers()[0]
    if gpu.tensorrt_cache and first != TENSORRT:
        raise MachineError(
            f"tensorrt_cache {gpu.tensorrt_cache}: onnxruntime could not start TensorRT; see its messages above"
        )
    if first != CPU:
        return "cuda"
    if device == "cuda":
        raise MachineError("device cuda: onnxruntime could not start CUDA; see its messages above")
    if device == "auto" and CUDA in onnxruntime.get_available_providers():
        log.warning("onnxruntime offers CUDA but could not start it; scoring on the CPU")
    return "cpu"


def _cuda_options(gpu: GpuOptions) -> dict[str, str]:
    options = {
        "arena_extend_strategy": "kSameAsRequested",  # grow by what is needed, not to the next power of two
        "use_tf32": "0",  # products in fp32 are what an fp32 bundle promises; who wants speed takes fp16
    }
    if gpu.memory_mb:
        options["gpu_mem_limit"] = str(gpu.memory_mb * 1024 * 1024)
    if gpu.cuda_graphs:
        options["enable_cuda_graph"] = "1"
    return options
