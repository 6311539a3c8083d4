"""What NVIDIA's management library (NVML) tells of the GPUs; where it is not there, there are no such series.

The figures are those of whole GPUs, whoever uses them, read when somebody asks for the metrics.
"""

import importlib
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Self

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class GpuCollector(Collector):
    """Memory and use of every GPU that this process can see."""

    def __init__(self, nvml: ModuleType) -> None:
        """Take the module `pynvml`, started."""
        self._nvml = nvml

    @classmethod
    def of_machine(cls) -> Self | None:
        """Start NVML and return the collector; None without the package nvidia-ml-py or without a driver."""
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            log.info(f"no figures of GPUs: {error}")
            return None
        return cls(nvml)

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: registering must not read the GPUs."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield memory in use and in all, and the share of time that the GPU worked, each with the GPU's number."""
        used = GaugeMetricFamily("relevance_gpu_memory_used_bytes", "Memory of the GPU in use", labels=["gpu"])
        total = GaugeMetricFamily("relevance_gpu_memory_total_bytes", "Memory of the GPU", labels=["gpu"])
        busy = GaugeMetricFamily("relevance_gpu_utilization_ratio", "Share of time at work", labels=["gpu"])
        for number in range(self._count()):
            name = [str(number)]
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric(name, memory.used)
                total.add_metric(name, memory.total)
                busy.add_metric(name, self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except self._nvml.NVMLError as error:  # one that fell off the bus must not cost the other metrics
                log.debug(f"GPU {number}: {error}")  # at every look: a GPU that is cut up (MIG) never tells its use
        yield from (used, total, busy)

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            log.warning(f"no figures of GPUs: {error}")
            return 0
