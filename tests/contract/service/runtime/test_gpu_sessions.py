"""CUDA graphs on a GPU; skipped where there is none."""

import logging
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from relevance.model.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.text.tokenization import TokenizedPair
from service.batch_shape import GPU_SHAPE
from service.runtime.cuda_graphs import buckets_of
from service.runtime.providers import CUDA, GpuOptions
from service.runtime.session import Engine
from tests.tiny import MAX_LENGTH, tiny_bundle, tiny_model

SHAPE = GPU_SHAPE.limited_to(MAX_LENGTH)
TOLERANCE = 1e-3


def offered(provider):
    """Say whether a session of a tiny graph can be started on a provider."""
    if provider not in onnxruntime.get_available_providers():
        return False
    onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(tiny_model(0, 8, 0).SerializeToString(), providers=[provider])
    return session.get_providers()[0] == provider


pytestmark = pytest.mark.skipif(not offered(CUDA), reason="no GPU that onnxruntime can use")


@pytest.fixture
def bundle(tmp_path):
    tiny_bundle(tmp_path / "qc", hidden=64, depth=4)
    return Bundle.open(tmp_path / "qc")


def batches(count=60, seed=0):
    """Yield batches of random sizes and lengths."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        lengths = rng.integers(5, MAX_LENGTH + 1, size=rng.integers(1, 80))
        yield [TokenizedPair(rng.integers(4, 200, size=n).tolist(), [0] * n, False) for n in lengths]


def graphed(bundle):
    engine = Engine(bundle, device="cuda", gpu=GpuOptions(SHAPE, cuda_graphs=True))
    engine.warm_up(SHAPE)
    return engine


def test_graphs_are_captured_and_score_as_runs_without(bundle):
    plain, engine = Engine(bundle, device="cuda"), graphed(bundle)
    assert engine._graphs.buckets == tuple(buckets_of(SHAPE))
    for pairs in batches():
        width = SHAPE.padded(max(map(len, pairs)))
        np.testing.assert_allclose(engine.logits(pairs, width), plain.logits(pairs, width), atol=TOLERANCE)


def test_graphs_score_the_same_for_threads_and_models_at_once(bundle, tmp_path):
    tiny_bundle(tmp_path / "other", seed=1, hidden=64, depth=4)
    opened = (bundle, Bundle.open(tmp_path / "other"))
    engines, worst = [graphed(each) for each in opened], []

    def work(place, seed):
        plain = Engine(opened[place], device="cpu")
        worst.extend(np.abs(engines[place].logits(pairs) - plain.logits(pairs)).max() for pairs in batches(20, seed))

    threads = [threading.Thread(target=work, args=(seed % 2, seed)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 6 * 20
    assert max(worst) < TOLERANCE


def with_control_flow(bundle):
    """Return a bundle of the same scores whose graph ends in an If, which no CUDA graph can hold."""
    model = onnx.load(bundle.folder / MODEL_FILE)
    for node in model.graph.node:
        node.output[:] = ["scored" if name == "logits" else name for name in node.output]
    result = [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Identity", ["scored"], ["same"])], "branch", [], result)
    model.graph.node.append(helper.make_node("ReduceMax", ["mask"], ["most"], keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL))
    model.graph.node.append(helper.make_node("If", ["any"], ["logits"], then_branch=branch, else_branch=branch))
    onnx.save(model, bundle.folder / MODEL_FILE)
    write_bundle_files(bundle.folder, bundle.manifest, bundle.golden)
    return Bundle.open(bundle.folder)


def test_a_graph_with_control_flow_is_scored_without(bundle, caplog):
    with caplog.at_level(logging.WARNING):
        engine = graphed(with_control_flow(bundle))
    assert [record.getMessage()[:29] for record in caplog.records] == ["cuda_graphs: scoring without,"]
    assert engine.device == "cuda"
    assert engine._graphs.buckets == ()
    assert engine.golden_difference < TOLERANCE
