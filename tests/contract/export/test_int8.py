"""int8 with scales fixed at export: one score for a pair whatever its batch, and what stays fp32."""

import numpy as np
import onnx
import pytest

from export import int8
from export.int8 import Observed, _fit, _fit_smoothed, _parted
from relevance import Scorer
from relevance.model.bundle import MODEL_FILE, Bundle
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


def test_inputs_stay_in_fp32_until_scores_move_little_enough(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(int8, "LARGEST_SHIFT", -1.0)  # nothing is near enough
    with caplog.at_level("INFO"):
        exported(checkpoint(tmp_path), tmp_path / "bundle", "int8")
    tried = [record.args[:2] for record in caplog.records if record.getMessage().startswith("int8:")]
    assert [left for left, _ in tried][:3] == [0, 1, 2]
    assert tried[-1][0] == tried[-1][1]  # all of them
    assert "MatMulIntegerToFloat" not in operators(tmp_path / "bundle")
    assert not [path.name for path in (tmp_path / "bundle").iterdir() if path.name.startswith("fp32")]
    assert Bundle.open(tmp_path / "bundle").manifest.parity.max_logit_difference < 0.05  # of the tables


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
    assert _fit(observed(rows), weights).error < 1e-3
    plain = _fit_smoothed(observed(rows), weights, rows, 0.0).error
    assert (plain > 1e-3) == (outlier > 1)


def test_the_integers_give_the_products():
    rows = scaled_rows(20.0)
    fitted = _fit(observed(rows), WEIGHTS)
    steps = np.clip(np.round(rows / fitted.smoothing / fitted.scale) + fitted.zero, 0, 255) - np.float32(fitted.zero)
    found = steps @ fitted.weights.astype(np.float32) * fitted.scale * fitted.weight_scales
    expected = rows @ WEIGHTS
    assert np.square(found - expected).sum() / np.square(expected).sum() == pytest.approx(fitted.error, rel=1e-3)
    assert np.abs(fitted.weights).max() <= 63  # 7 bits


def test_a_channel_that_is_always_zero_divides_by_nothing():
    rows = scaled_rows(0.0)
    fitted = _fit(observed(rows), np.where(np.arange(16)[:, None] == 5, 0, WEIGHTS))
    assert np.isfinite([fitted.error, fitted.scale, *fitted.weight_scales]).all()
    assert fitted.error < 1e-3
