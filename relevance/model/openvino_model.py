"""A bundle's graph in OpenVINO, computed in bf16: the second runtime on a CPU. Needs the extra `serve-openvino`.

A bf16 number has the exponent of fp32 and 7 of its 23 bits of fraction. Some processors multiply such numbers about
twice as fast as fp32 (AVX-512 BF16, AMX); sums stay in fp32. The only module of the kernel that imports OpenVINO. Knows
no rows, no HTTP and no scheduling; which runtime a service takes is decided in `service.runtime.openvino_engine`.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from relevance.errors import BundleError, MachineError
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.cores import CPU_FACTS, cpu_flags, usable_cores
from relevance.model.session import check_names, run_error
from relevance.telemetry import block_telemetry_packages

if TYPE_CHECKING:
    import openvino

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # of /proc/cpuinfo: the processor multiplies in bf16
BF16_TOLERANCE = 0.05  # largest difference of a golden logit from fp32: at most 0.0125 of a score
WHERE = re.compile(r"(Exception from|Check '.*?' failed at) \S+:\d+:? ?")  # in OpenVINO's source, before what is wrong


class OpenVinoModel:
    """A compiled graph. Safe to share among threads: up to `runs` batches run at a time, further ones wait."""

    def __init__(
        self, bundle: Bundle, threads: int = 0, runs: int = 1, precision: Literal["bf16", "f32"] = "bf16"
    ) -> None:
        """Compile the graph for `runs` batches at a time, each on `threads` threads; 0: every usable core.

        Raises BundleError where the graph does not compile or does not fit its manifest, and MachineError where
        OpenVINO is not installed.
        """
        self._bundle = bundle
        model = _compile(
            bundle,
            {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": runs,
                "INFERENCE_NUM_THREADS": (threads or usable_cores()) * runs,
                "ENABLE_CPU_PINNING": False,  # other models and other processes use the same cores
            },
        )
        inputs, outputs = ({name for port in ports for name in port.names} for ports in (model.inputs, model.outputs))
        check_names(bundle, inputs, outputs)
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(runs):
            self._idle.put(model.create_infer_request())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.floating]:
        """Return the output [B] for inputs [B, T] and features [B, F].

        Raises MachineError where OpenVINO fails. All later runs of the same compiled graph may then fail.
        """
        request = self._idle.get()
        try:
            # Not `infer`: with one thread (2026.4) it hides an error and returns what the run before it left.
            request.start_async(dict(feeds))
            request.wait()
            found: NDArray[np.floating] = np.array(request.get_tensor(self._bundle.manifest.output_name).data)
        except RuntimeError as error:  # all of OpenVINO's errors
            raise run_error(self._bundle, feeds, f"OpenVINO: {_why(error)}") from None
        finally:
            self._idle.put(request)
        return found


def why_not_bf16(bundle: Bundle, cpu_facts: Path = CPU_FACTS) -> str | None:
    """Return why OpenVINO cannot run a bundle in bf16 on this machine; None where it can be tried."""
    if bundle.manifest.precision != "fp32":
        return f"the bundle is {bundle.manifest.precision}; expected fp32, from which OpenVINO makes bf16"
    if find_spec("openvino") is None:
        return "the package openvino is not installed; expected it from the extra `serve-openvino`"
    if not has_bf16(cpu_facts):
        return f"the processor does not multiply in bf16; expected one of {', '.join(sorted(BF16_FLAGS))} ({cpu_facts})"
    return None


def has_bf16(cpu_facts: Path = CPU_FACTS) -> bool:
    """Return whether the processor multiplies in bf16. OpenVINO says so of slower ones too, which convert to fp32."""
    return not BF16_FLAGS.isdisjoint(cpu_flags(cpu_facts))


def _compile(bundle: Bundle, options: dict[str, Any]) -> "openvino.CompiledModel":
    block_telemetry_packages()
    try:
        import openvino
    except ModuleNotFoundError:
        raise MachineError(
            "OpenVINO: the package openvino is not installed; expected it from the extra `serve-openvino`"
        ) from None
    except ImportError as error:  # a library that it needs is missing or of another version
        raise MachineError(f"OpenVINO: the package openvino does not load: {error}") from None
    try:
        return openvino.Core().compile_model(str(bundle.folder / MODEL_FILE), "CPU", options)
    except RuntimeError as error:
        raise BundleError(f"bundle {bundle.folder}: OpenVINO cannot run {MODEL_FILE}: {_why(error)}") from None


def _why(error: RuntimeError) -> str:
    """Return the first 300 characters of an error of OpenVINO, without places in its source."""
    return WHERE.sub("", " ".join(str(error).split()))[:300]
