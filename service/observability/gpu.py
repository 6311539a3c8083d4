"""GPU metrics from NVIDIA's management library (NVML), read at each scrape. Without NVML the series do not exist.

The values are those of whole GPUs, whichever process uses them. Knows no models.
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
    """Memory and utilization of every GPU that this process can see."""

    def __init__(self, nvml: ModuleType) -> None:
        """Wrap the module `pynvml`, already initialised."""
        self._nvml = nvml

    @classmethod
    def of_machine(cls) -> Self | None:
        """Initialise NVML and return the collector. None without the package nvidia-ml-py or without a driver."""
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            log.info(f"no GPU metrics: {error}")
            return None
        return cls(nvml)

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that registration does not read the GPUs."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield used memory, total memory and utilization, labelled with the GPU's number."""
        used = GaugeMetricFamily("relevance_gpu_memory_used_bytes", "Used memory of the GPU", labels=["gpu"])
        total = GaugeMetricFamily("relevance_gpu_memory_total_bytes", "Total memory of the GPU", labels=["gpu"])
        busy = GaugeMetricFamily(
            "relevance_gpu_utilization_ratio", "Share of time that the GPU was busy", labels=["gpu"]
        )
        for number in range(self._count()):
            name = [str(number)]
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric(name, memory.used)
                total.add_metric(name, memory.total)
                busy.add_metric(name, self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except self._nvml.NVMLError as error:  # a lost GPU must not cost the other metrics
                # DEBUG, since it repeats at every scrape: a partitioned GPU (MIG) has no utilization
                log.debug(f"GPU {number}: {error}")
        yield from (used, total, busy)

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            log.warning(f"no GPU metrics: {error}")
            return 0
