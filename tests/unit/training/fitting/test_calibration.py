import numpy as np
import pytest
from scipy.special import expit

from relevance.tasks import LabeledPair, Pair
from training.fitting.calibration import platt, tune
from training.fitting.options import CalibrationOptions


def drawn(count, scale, offset, seed=0):
    """Logits [N], and labels [N] that are positive as often as sigmoid(scale * logit + offset) says."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, count)
    return logits, (rng.random(count) < expit(scale * logits + offset)).astype(int)


def rows(labels, languages=None):
    languages = languages or ["en"] * len(labels)
    return [
        LabeledPair(Pair("q", "c", code), int(label), str(n))
        for n, (label, code) in enumerate(zip(labels, languages, strict=True))
    ]


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.5, 1.0), (2.0, -1.5), (0.2, 0.3)])
def test_platt_finds_the_scale_and_offset_that_made_the_labels(scale, offset):
    logits, labels = drawn(20_000, scale, offset)
    found = platt(labels, logits)
    assert found.scale == pytest.approx(scale, abs=0.06)
    assert found.offset == pytest.approx(offset, abs=0.06)


def test_platt_agrees_with_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    logits, labels = drawn(5_000, 0.7, -0.4)
    reference = LogisticRegression(C=1e9).fit(logits[:, None], labels)
    found = platt(labels, logits)
    assert found.scale == pytest.approx(float(reference.coef_[0, 0]), abs=2e-3)
    assert found.offset == pytest.approx(float(reference.intercept_[0]), abs=2e-3)


def test_scores_that_rank_the_wrong_way_round_are_left_as_they_are():
    logits, labels = drawn(500, 1.0, 0.0)
    assert platt(labels, -logits).scale == 1.0


def test_separable_rows_give_finite_numbers():
    found = platt([0, 0, 1, 1], [-9.0, -8.0, 8.0, 9.0])
    assert np.isfinite([found.scale, found.offset]).all()


def test_calibration_never_raises_the_log_loss_on_dev():
    logits, labels = drawn(400, 0.3, 0.8)
    found = tune(rows(labels), logits, CalibrationOptions(), ["en"])
    assert found.log_loss_after < found.log_loss_before


def test_thresholds_by_language_need_enough_rows():
    logits, labels = drawn(330, 1.0, 0.0)
    languages = ["en"] * 300 + ["ja"] * 30
    found = tune(rows(labels, languages), logits, CalibrationOptions(by_language=True, least_rows=100), ["en", "ja"])
    assert set(found.language_thresholds) == {"en"}
    assert found.threshold_for("ja") == found.threshold


def test_a_fixed_threshold_stays():
    logits, labels = drawn(100, 1.0, 0.0)
    assert tune(rows(labels), logits, CalibrationOptions(threshold=0.4), ["en"]).threshold == 0.4


def test_a_language_that_training_lacks_gets_a_matched_threshold_without_its_labels():
    logits, labels = drawn(700, 1.0, 0.5)
    logits[500:] -= 5.0
    languages = ["en"] * 500 + ["pl"] * 200
    found = tune(rows(labels, languages), logits, CalibrationOptions(platt=False), ["en"])
    scores = found.scores(logits)
    share = (scores[:500] >= found.threshold).mean()
    assert (scores[500:] >= found.threshold_for("pl")).mean() == pytest.approx(share, abs=0.01)
    assert found.threshold_sources["pl"].method == "matched"


def test_labels_asked_for_by_language_come_before_matched_thresholds():
    logits, labels = drawn(700, 1.0, 0.5)
    languages = ["en"] * 500 + ["pl"] * 200
    section = CalibrationOptions(by_language=True, least_rows=100)
    assert tune(rows(labels, languages), logits, section, ["en"]).threshold_sources["pl"].method == "labelled"
