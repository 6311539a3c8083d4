"""int8 with scales fixed at export: one score for a pair whatever its batch, and what stays fp32."""

import numpy as np
import onnx
import pytest

from export.int8 import quantizing, rounding
from export.int8.quantizing import _parted, findings
from export.int8.rewriting import StaticQuantizer, switch
from export.int8.rounding import Observed, fit, nearest
from export.onnx import head_nodes
from relevance import Scorer
from relevance.model.bundle import MODEL_FILE, Bundle, Int8
from relevance.model.session import onnxruntime
from tests.contract.export.test_export import ROWS, checkpoint, exported


def operators(folder):
    return [node.op_type for node in onnx.load(folder / MODEL_FILE).graph.node]


def scaled_rows(outlier):
    """Return rows [200, 16] of which one channel is larger than the rest."""
    rows = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    rows[:, 3] *= outlier
    return rows


def observed(rows):
    return Observed(rows.min(axis=0), rows.max(axis=0), [rows])


WEIGHTS = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)


def test_a_pair_scores_alike_in_every_batch(tmp_path):
    exported(checkpoint(tmp_path), tmp_path / "bundle", "int8")
    scorer = Scorer.open(tmp_path / "bundle", device="cpu")
    pairs = [(query, candidate, language) for query, candidate, language, _ in ROWS]
    alone = [scorer.score([pair]).logits[0] for pair in pairs]
    np.testing.assert_allclose(scorer.score(pairs * 3).logits, alone * 3, atol=1e-3)


def test_products_and_the_table_of_words_become_integers(tmp_path):
    exported(checkpoint(tmp_path), tmp_path / "bundle", "int8")
    found = operators(tmp_path / "bundle")
    assert "MatMulIntegerToFloat" in found
    assert "DynamicQuantizeLinear" not in found
    weights = onnx.load(tmp_path / "bundle" / MODEL_FILE).graph.initializer
    assert [w.name for w in weights if w.name.endswith("word_embeddings.weight_int8")]
    assert not [w.name for w in weights if w.name.endswith("word_embeddings.weight")]


def in_both_ways(tmp_path):
    """Return a quantizer of a small model and what its graph with both ways gives for a choice of inputs in fp32."""
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    arrays = bundle.tokenizer().collate(bundle.inputs().encode([golden.pair for golden in bundle.golden]))
    feeds = {name: arrays[name] for name in bundle.manifest.input_names}
    quantizer = StaticQuantizer(bundle.folder / MODEL_FILE, [feeds], head_nodes(bundle.folder / MODEL_FILE))

    def run(path, **more):
        return onnxruntime.InferenceSession(str(path)).run(None, feeds | more)[0].reshape(-1)

    quantizer.write_both(tmp_path / "both.onnx")
    switches = lambda in_fp32: {switch(n): np.array(n not in in_fp32) for n in quantizer.weights}  # noqa: E731
    return quantizer, run, lambda in_fp32: run(tmp_path / "both.onnx", **switches(in_fp32))


def test_one_graph_gives_the_logits_of_every_choice(tmp_path):
    quantizer, run, both = in_both_ways(tmp_path)
    names = list(quantizer.weights)
    found = []
    for in_fp32 in ((), names[:1], names[1:], names):
        quantizer.write(tmp_path / "int8.onnx", in_fp32, 0.0)
        found.append(run(tmp_path / "int8.onnx"))
        np.testing.assert_allclose(both(in_fp32), found[-1], atol=1e-3)
    assert len({each.tobytes() for each in found}) == len(found)  # the choices differ


def test_an_offset_is_added_to_logits(tmp_path):
    quantizer, run, _ = in_both_ways(tmp_path)
    found = []
    for offset in (0.0, 0.25):
        quantizer.write(tmp_path / "int8.onnx", (), offset)
        found.append(run(tmp_path / "int8.onnx"))
    np.testing.assert_allclose(found[1] - found[0], 0.25, atol=1e-5)


@pytest.mark.parametrize("share", [0.6, 0.0])
def test_products_stay_in_fp32_until_scores_move_little_enough(tmp_path, monkeypatch, share):
    source = checkpoint(tmp_path)
    monkeypatch.setattr(rounding, "WEIGHT_STEPS", 3)  # so that products move scores more than tables do
    monkeypatch.setattr(quantizing, "TARGET_SHIFT", 1.0)
    all_in_int8 = exported(source, tmp_path / "first", "int8").int8
    assert all_in_int8.in_fp32 == ()
    target = share * all_in_int8.score_shift_p99
    monkeypatch.setattr(quantizing, "TARGET_SHIFT", target)
    found = exported(source, tmp_path / "bundle", "int8")
    assert found.int8.products == all_in_int8.products
    names = {node.name: node.op_type for node in onnx.load(tmp_path / "bundle" / MODEL_FILE).graph.node}
    assert {names[name] for name in found.int8.in_fp32} == {"MatMul"}
    assert operators(tmp_path / "bundle").count("MatMulIntegerToFloat") == found.int8.products - len(found.int8.in_fp32)
    if share:
        assert 0 < len(found.int8.in_fp32) < found.int8.products
        assert found.int8.score_shift_p99 <= 1.2 * target  # of the graph that was written
    else:
        assert len(found.int8.in_fp32) == found.int8.products  # the tables still move scores
    assert not [path.name for path in (tmp_path / "bundle").iterdir() if path.name.startswith("fp32")]
    assert Bundle.open(tmp_path / "bundle").manifest.int8 == found.int8


def test_a_bundle_says_that_scores_move_further_than_promised(tmp_path, monkeypatch):
    monkeypatch.setattr(quantizing, "LARGEST_SHIFT", -1.0)
    found = exported(checkpoint(tmp_path), tmp_path / "bundle", "int8").findings
    assert [each for each in found if "int8 moves the 99th percentile of scores by" in each]
    assert findings(Int8(products=1, in_fp32=(), checked_pairs=1, score_shift_p99=-2.0)) == findings(None) == ()


@pytest.mark.parametrize(
    ("count", "observed", "checked"), [(24, 24, 24), (128, 128, 128), (256, 128, 128), (312, 104, 208)]
)
def test_scores_are_checked_on_other_pairs_than_those_that_give_the_scales(count, observed, checked):
    observing, checking = _parted(count)
    assert (len(observing), len(checking)) == (observed, checked)
    assert {*observing, *checking} == {*range(count)}


@pytest.mark.parametrize("outlier", [1.0, 300.0])
def test_a_channel_of_outliers_costs_little(outlier):
    rows = scaled_rows(outlier)
    weights = WEIGHTS / np.where(np.arange(16) == 3, outlier, 1)[:, None].astype(
        np.float32
    )  # as trained models have it
    assert fit(observed(rows), weights).error(rows, rows @ weights) < 1e-3
    plain = nearest(observed(rows), weights, 0.0).error(rows, rows @ weights)
    assert (plain > 1e-3) == (outlier > 1)


def test_the_integers_give_the_products():
    rows = scaled_rows(20.0)
    fitted = fit(observed(rows), WEIGHTS)
    steps = np.clip(np.round(rows / fitted.smoothing / fitted.scale) + fitted.zero, 0, 255) - np.float32(fitted.zero)
    found = steps @ fitted.weights.astype(np.float32) * fitted.scale * fitted.weight_scales
    expected = rows @ WEIGHTS
    assert np.square(found - expected).sum() / np.square(expected).sum() < 1e-3
    assert np.abs(fitted.weights).max() <= 63  # 7 bits


def test_rounding_makes_up_for_itself_where_channels_go_together():
    rng = np.random.default_rng(2)
    rows = (rng.normal(size=(600, 12)) @ rng.normal(size=(12, 160))).astype(np.float32)  # some channels follow others
    weights = rng.normal(size=(160, 8)).astype(np.float32)
    fitted, others = fit(observed(rows[:400]), weights), rows[400:]
    near = nearest(observed(rows[:400]), weights, 0.5)
    assert fitted.error(others, others @ weights) < 0.7 * near.error(others, others @ weights)
    assert np.abs(fitted.weights).max() <= 63


def test_a_channel_that_is_always_zero_divides_by_nothing():
    rows = scaled_rows(0.0)
    weights = np.where(np.arange(16)[:, None] == 5, 0, WEIGHTS)
    fitted = fit(observed(rows), weights)
    assert np.isfinite([fitted.scale, *fitted.weight_scales]).all()
    assert fitted.error(rows, rows @ weights) < 1e-3
