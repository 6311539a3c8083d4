"""The engine over OpenVINO, and when a model on the CPU gets it. Knows no HTTP, no scheduling and no thresholds.

A bundle runs in bf16 where OpenVINO is installed, the processor multiplies in bf16 and the golden pairs agree. Else
onnxruntime runs it. docs/serving.md has the reasons and the figures.
"""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relevance.errors import BundleError, MachineError
from relevance.model.bundle import Bundle
from relevance.model.openvino_model import BF16_TOLERANCE, OpenVinoModel, why_not_bf16
from relevance.model.session import self_test
from service.batch_shape import OPENVINO_SHAPE, BatchShape
from service.runtime.cuda_graphs import Feeds
from service.runtime.session import Engine

log = logging.getLogger(__name__)

CpuRuntime = Literal["auto", "onnxruntime", "openvino"]


@dataclass(frozen=True, slots=True)
class CpuOptions:
    """The operator's options for models on the CPU: `runs` batches at a time, each on `threads` threads."""

    runtime: CpuRuntime = "auto"
    threads: int = 1
    runs: int = 1


class OpenVinoEngine(Engine):
    """A graph that OpenVINO computes in bf16. It has passed its golden self-test within `BF16_TOLERANCE`."""

    runtime = "openvino-bf16"
    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 1, runs: int = 1) -> None:
        """Compile the graph and score the golden pairs. Raises as `OpenVinoModel` and the self-test do."""
        self._read(bundle)
        self._model = OpenVinoModel(bundle, threads, runs)
        self.golden_difference = self_test(bundle, self.inputs, self.logits, self.golden_tolerance)
        self.unknown_tokens = 0

    @property
    def golden_tolerance(self) -> float:
        """How far logits may be from the golden ones."""
        return BF16_TOLERANCE

    @property
    def shape(self) -> BatchShape:
        """The shape of the batches that this engine should get."""
        return OPENVINO_SHAPE

    def _run(self, feeds: Feeds) -> NDArray[np.floating]:
        return self._model.run(feeds)


def openvino_engine(bundle: Bundle, cpu: CpuOptions) -> OpenVinoEngine | None:
    """Return the engine over OpenVINO where the options allow it and it suits the bundle; None: onnxruntime runs it.

    With the runtime `openvino` a reason against it raises MachineError or BundleError.
    """
    if cpu.runtime == "onnxruntime":
        return None
    required = cpu.runtime == "openvino"
    if (reason := why_not_bf16(bundle)) is not None:
        if required:
            raise MachineError(f"cpu_runtime openvino, bundle {bundle.folder}: {reason}")
        log.debug(f"onnxruntime runs {bundle.folder}: {reason}")
        return None
    try:
        return OpenVinoEngine(bundle, cpu.threads, cpu.runs)
    except (BundleError, MachineError) as error:
        if required:
            raise
        log.warning(f"OpenVINO is not used, onnxruntime is: {error}")
        return None
