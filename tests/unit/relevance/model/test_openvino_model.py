"""The graph of a bundle in OpenVINO: what it gives, and what it refuses. In bf16, or in fp32 where there is no bf16."""

import concurrent.futures
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from relevance.errors import BundleError, MachineError
from relevance.model import openvino_model
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.openvino_model import BF16_TOLERANCE, OpenVinoModel, has_bf16, why_not_bf16
from relevance.text.tokenization import TokenizedPair
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return Bundle.open(folder)


def feeds(bundle, pairs):
    arrays = bundle.tokenizer().collate(pairs)
    return {name: arrays[name] for name in bundle.manifest.input_names}


def test_the_golden_logits_are_met(bundle):
    pairs = bundle.inputs().encode([golden.pair for golden in bundle.golden])
    found = OpenVinoModel(bundle, threads=1).run(feeds(bundle, pairs))
    assert found == pytest.approx([golden.logit for golden in bundle.golden], abs=BF16_TOLERANCE)


def test_threads_that_share_a_model_get_their_own_logits(bundle):
    model, rng = OpenVinoModel(bundle, threads=1, runs=2), np.random.default_rng(0)
    batches = [
        feeds(bundle, [TokenizedPair(rng.integers(4, 200, size=width).tolist(), [0] * width, False)] * rows)
        for rows in (1, 2, 3)
        for width in (8, 12)
    ]
    alone = [model.run(batch).tolist() for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda batch: model.run(batch).tolist(), batches * 5))
    assert together == alone * 5


@pytest.mark.parametrize("threads", [1, 2])  # with one, OpenVINO's own `infer` returns the logits of the run before
def test_a_run_that_fails_is_an_error_whatever_the_threads(bundle, threads):
    model = OpenVinoModel(bundle, threads=threads)
    good = feeds(bundle, bundle.inputs().encode([golden.pair for golden in bundle.golden]))
    model.run(good)
    rows, width = good["input_ids"].shape
    with pytest.raises(MachineError, match=rf"qc: a batch of {rows} pairs of {width} tokens does not run: OpenVINO: "):
        model.run(good | {"attention_mask": good["attention_mask"][:, :3]})


def test_a_graph_with_an_unknown_operator_is_named(bundle, tmp_path):
    tiny_bundle(tmp_path / "qc")
    model = onnx.load(tmp_path / "qc" / MODEL_FILE)
    model.graph.node.append(helper.make_node("Strange", ["logits"], ["stranger"], domain="com.example"))
    model.graph.output.append(helper.make_tensor_value_info("stranger", TensorProto.FLOAT, ["batch"]))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, tmp_path / "qc" / MODEL_FILE)
    odd = Bundle(tmp_path / "qc", bundle.manifest, bundle.golden)
    with pytest.raises(BundleError, match=r"qc: OpenVINO cannot run model\.onnx: .*Strange"):
        OpenVinoModel(odd)


def test_a_graph_of_other_inputs_than_the_manifest_says_is_refused(bundle):
    manifest = bundle.manifest.model_copy(update={"input_names": ("input_ids",)})
    with pytest.raises(BundleError, match="attention_mask"):
        OpenVinoModel(Bundle(bundle.folder, manifest, bundle.golden))


@pytest.mark.parametrize(
    ("flags", "has"), [("sse avx512f avx512_bf16", True), ("sse amx_bf16 amx_tile", True), ("avx512f avx2", False)]
)
def test_the_processor_says_whether_it_multiplies_in_bf16(tmp_path, flags, has):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert has_bf16(tmp_path / "cpuinfo") is has
    assert not has_bf16(tmp_path / "absent")


def test_a_bundle_of_another_precision_is_not_run_in_bf16(bundle):
    manifest = bundle.manifest.model_copy(update={"precision": "int8"})
    assert "the bundle is int8" in why_not_bf16(Bundle(bundle.folder, manifest, bundle.golden))


def test_a_processor_without_bf16_is_a_reason(bundle, tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : avx2")
    assert "expected one of amx_bf16, avx512_bf16" in why_not_bf16(bundle, tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16")
    assert why_not_bf16(bundle, tmp_path / "cpuinfo") is None


def test_the_missing_package_is_named_with_its_extra(bundle, monkeypatch):
    monkeypatch.setattr(openvino_model, "find_spec", lambda name: None)
    assert "the extra `serve-openvino`" in why_not_bf16(bundle)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MachineError, match="serve-openvino"):
        OpenVinoModel(bundle)
