"""What the metrics tell of the machine: memory, and GPUs where NVML is there.

No GPU is at hand: its part reads a stub of NVML's Python interface. The real package has to have the same names.
"""

import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.observability.gpu import GpuCollector
from service.observability.metrics import PAGE_BYTES, memory_limit_bytes


class StubError(Exception):
    """Stands for pynvml.NVMLError."""


class Nvml(SimpleNamespace):
    """NVML with two GPUs, of which the second has fallen off the bus."""

    NVMLError = StubError
    cut_up = False

    def nvmlInit(self):  # noqa: N802 - NVML's name, as those below
        if not self.driver:
            raise StubError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        if number == 1:
            raise StubError("GPU is lost")
        return number

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return SimpleNamespace(used=3 * 2**30, total=16 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        if self.cut_up:
            raise StubError("Not Supported")
        return SimpleNamespace(gpu=37)


def test_gpus_that_answer_are_told_and_a_lost_one_costs_nothing_else(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(driver=True))
    registry = CollectorRegistry()
    registry.register(GpuCollector.of_machine())
    page = generate_latest(registry).decode()
    assert 'relevance_gpu_memory_used_bytes{gpu="0"} 3.221225472e+09' in page
    assert 'relevance_gpu_memory_total_bytes{gpu="0"} 1.7179869184e+10' in page
    assert 'relevance_gpu_utilization_ratio{gpu="0"} 0.37' in page
    assert 'gpu="1"' not in page


def test_gpu_that_does_not_tell_its_use_tells_its_memory():
    page = [family for family in GpuCollector(Nvml(cut_up=True)).collect() if family.samples]
    assert [family.name for family in page] == ["relevance_gpu_memory_used_bytes", "relevance_gpu_memory_total_bytes"]


@pytest.mark.parametrize("module", [None, Nvml(driver=False)])
def test_without_nvml_or_driver_there_are_no_series(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)  # None makes the import fail
    assert GpuCollector.of_machine() is None


def test_the_real_package_has_the_names_of_the_stub():
    nvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is in the serve-gpu extra")
    for name in (each for each in dir(Nvml) if each.lower().startswith("nvml")):
        assert callable(getattr(nvml, name))


def test_memory_limit_is_that_of_the_container_within_that_of_the_machine(tmp_path):
    machine = memory_limit_bytes(tmp_path / "absent")
    assert machine >= PAGE_BYTES * 1000
    limit = tmp_path / "memory.max"
    for text, expected in (("max\n", machine), ("67108864\n", 67108864), (f"{machine * 2}\n", machine)):
        limit.write_text(text)
        assert memory_limit_bytes(limit) == expected
