"""Which models on the CPU run in OpenVINO, and what the service says of it."""

import logging

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from prometheus_client import generate_latest

from relevance import Scorer
from relevance.errors import BundleError, MachineError
from relevance.model import openvino_model
from relevance.model.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.model.openvino_model import BF16_TOLERANCE
from relevance.tasks import Task
from service.batch_shape import CPU_SHAPE, OPENVINO_SHAPE
from service.observability.metrics import Metrics
from service.runtime.openvino_engine import CpuOptions, openvino_engine
from service.scoring.model_metrics import ModelMetrics, Role
from service.scoring.served_model import open_engine
from service.settings import Settings
from tests.serving import in_process
from tests.tiny import tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    tiny_bundle(tmp_path / "qc")
    return Bundle.open(tmp_path / "qc")


@pytest.fixture
def processor(monkeypatch):
    monkeypatch.setattr(openvino_model, "has_bf16", lambda facts: True)


def off_by(bundle, difference):
    """Return the bundle with golden logits that are off, and a tolerance that lets onnxruntime pass."""
    golden = [each.model_copy(update={"logit": each.logit + difference}) for each in bundle.golden]
    write_bundle_files(bundle.folder, bundle.manifest.model_copy(update={"golden_tolerance": 1.0}), golden)
    return Bundle.open(bundle.folder)


def scores(engine):
    return engine.logits(engine.inputs.encode([golden.pair for golden in engine.bundle.golden])).tolist()


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_a_bundle_that_agrees_runs_in_bf16(bundle, processor, runtime):
    engine = open_engine(bundle, Settings(cpu_runtime=runtime, device="cpu"))
    assert (engine.runtime, engine.device, engine.shape) == ("openvino-bf16", "cpu", OPENVINO_SHAPE)
    assert engine.golden_difference < BF16_TOLERANCE
    assert scores(engine) == pytest.approx([golden.logit for golden in bundle.golden], abs=BF16_TOLERANCE)
    assert len(engine.warm_up(OPENVINO_SHAPE.limited_to(96))) == len(OPENVINO_SHAPE.limited_to(96).lengths)


def test_the_setting_onnxruntime_keeps_it(bundle, processor):
    engine = open_engine(bundle, Settings(cpu_runtime="onnxruntime", device="cpu"))
    assert (engine.runtime, engine.shape) == ("onnxruntime", CPU_SHAPE)


def test_a_bundle_that_disagrees_runs_in_onnxruntime_and_the_log_says_why(bundle, processor, caplog):
    other = off_by(bundle, 2 * BF16_TOLERANCE)
    with caplog.at_level(logging.WARNING):
        engine = open_engine(other, Settings(cpu_runtime="auto", device="cpu"))
    assert engine.runtime == "onnxruntime"
    metrics = Metrics([Task.QC], [], [], [])
    ModelMetrics(metrics, other.manifest, engine.device, engine.runtime).set_role(Role.ACTIVE)
    assert 'role="active",runtime="onnxruntime"' in generate_latest(metrics.registry).decode()
    assert "OpenVINO is not used, onnxruntime is: bundle" in caplog.text
    assert f"within {BF16_TOLERANCE}" in caplog.text


def test_a_bundle_that_disagrees_is_refused_where_openvino_is_required(bundle, processor):
    with pytest.raises(BundleError, match="golden pair 1 scored"):
        openvino_engine(off_by(bundle, 2 * BF16_TOLERANCE), CpuOptions("openvino"))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bundle_that_openvino_cannot_run_is_left_to_onnxruntime_and_the_log_says_why(
    bundle, processor, caplog, threads
):
    """The graph compiles, but a run fails: seven numbers are added to the logits of four golden pairs."""
    model = onnx.load(bundle.folder / MODEL_FILE)
    next(node for node in model.graph.node if "logits" in node.output).output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(7, dtype=np.float32), "seven"))
    model.graph.node.append(helper.make_node("Add", ["raw", "seven"], ["logits"]))
    onnx.save(model, bundle.folder / MODEL_FILE)
    assert openvino_engine(bundle, CpuOptions("auto", threads)) is None
    assert f"onnxruntime is: bundle {bundle.folder}: a batch of 4 pairs of" in caplog.text
    for opened in (
        lambda: openvino_engine(bundle, CpuOptions("openvino", threads)),
        lambda: open_engine(bundle, Settings(cpu_runtime="onnxruntime", device="cpu")),
    ):
        with pytest.raises(MachineError, match=r"a batch of 4 pairs of .* does not run"):
            opened()


def test_a_processor_without_bf16_takes_onnxruntime_or_refuses(bundle, monkeypatch):
    monkeypatch.setattr(openvino_model, "has_bf16", lambda facts: False)
    assert openvino_engine(bundle, CpuOptions("auto")) is None
    with pytest.raises(MachineError, match=r"cpu_runtime openvino, bundle .*qc: the processor does not multiply"):
        openvino_engine(bundle, CpuOptions("openvino"))


def test_a_service_names_the_runtime_and_scores_within_the_limit(bundle, processor, caplog):
    body = {"task": "qc", "query": "shoes", "candidates": ["Phones", "Sports,Running Shoes", "Cups"], "language": "en"}

    async def scenario(client, service):
        answer = (await client.post("/v1/score", json=body)).json()
        listed = (await client.get("/v1/models")).json()["models"][0]
        card = (await client.get("/v1/models/qc")).json()["models"][0]
        return answer, listed, card, (await client.get("/metrics")).text

    with caplog.at_level(logging.INFO):
        answer, listed, card, metrics = in_process(
            {Task.QC: bundle.folder}, scenario, cpu_runtime="openvino", device="cpu"
        )
    expected = Scorer.open(bundle.folder, device="cpu").score([("shoes", path, "en") for path in body["candidates"]])
    assert [each["score"] for each in answer["scores"]] == pytest.approx(expected.scores, abs=BF16_TOLERANCE / 4)
    assert (listed["runtime"], listed["precision"], card["runtime"]) == ("openvino-bf16", "fp32", "openvino-bf16")
    assert 'precision="fp32",role="active",runtime="openvino-bf16"' in metrics
    loaded = next(record for record in caplog.records if record.getMessage() == "bundle loaded")
    assert loaded.runtime == "openvino-bf16"
