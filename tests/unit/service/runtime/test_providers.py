"""What onnxruntime is told on a GPU, read where there is none."""

import onnxruntime
import pytest

from relevance.model import session
from relevance.model.bundle import Bundle
from relevance.model.session import BundleSession
from service.batch_shape import BatchShape
from service.runtime.providers import CPU, CUDA, GpuOptions, providers
from tests.tiny import tiny_bundle

CUDNN_ATTENTION = 8


@pytest.fixture(autouse=True)
def machine_with_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


def check(chosen):
    """Hold the options of CUDA to what both the service and the scorer need."""
    (name, options), last = chosen
    assert (name, last) == (CUDA, CPU)
    assert int(options["sdpa_kernel"]) & CUDNN_ATTENTION == 0  # it builds a plan for each new shape of a batch
    assert int(options["sdpa_kernel"]) > 0  # 0 leaves the choice to onnxruntime
    assert options["use_tf32"] == "0"


def test_the_service_leaves_out_the_attention_of_cudnn():
    check(providers("cuda", GpuOptions(BatchShape(1))))


def test_the_scorer_leaves_out_the_attention_of_cudnn(tmp_path, monkeypatch):
    tiny_bundle(tmp_path / "qc")
    asked = []

    def opened(bundle, threads, chosen):
        asked.append(chosen)
        return onnxruntime.InferenceSession(str(bundle.folder / "model.onnx"), providers=[CPU])

    monkeypatch.setattr(session, "open_session", opened)
    BundleSession.open(Bundle.open(tmp_path / "qc"))
    check(asked[0])


def test_options_of_the_operator_come_on_top():
    (_, options), _ = providers("cuda", GpuOptions(BatchShape(1), memory_mb=2, cuda_graphs=True))
    assert (options["gpu_mem_limit"], options["enable_cuda_graph"]) == ("2097152", "1")
