import numpy as np
import pytest
from scipy.special import expit

from relevance.evaluation.metrics import auc
from relevance.tasks import LabeledPair, Pair
from training.fitting.evaluation.calibration import language_offsets, platt, tune
from training.fitting.evaluation.options import CalibrationOptions


def drawn(count, scale, offset, seed=0):
    """Logits [N], and labels [N] that are positive as often as sigmoid(scale * logit + offset) says."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, count)
    return logits, (rng.random(count) < expit(scale * logits + offset)).astype(int)


def rows(labels, languages=None):
    languages = languages or ["en"] * len(labels)
    return [
        LabeledPair(Pair(f"q{n}", "c", code), int(label), str(n))
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


def by_language(offsets, count=400, seed=0):
    """Rows whose label is positive as often as sigmoid(logit + offset of their language) says, and their logits."""
    parts = {code: drawn(count, 1.0, offset, seed + n) for n, (code, offset) in enumerate(offsets.items())}
    languages = [code for code in offsets for _ in range(count)]
    labels = np.concatenate([labels for _, labels in parts.values()])
    return rows(labels, languages), np.concatenate([logits for logits, _ in parts.values()])


def test_one_language_of_two_gets_the_offset_of_its_labels():
    # sigmoid(0) = .5 for all rows; en has 3 of 4 positive, de 1 of 4: own offsets +-log(3)
    labels, languages = [1, 1, 1, 0] * 100 + [1, 0, 0, 0] * 100, ["en"] * 400 + ["de"] * 400
    found = language_offsets(labels, np.zeros(800), [str(n) for n in range(800)], languages)
    assert [found[code].own_offset for code in ("en", "de")] == pytest.approx([np.log(3), -np.log(3)])
    variance = 1 / (400 * 0.75 * 0.25)
    between = 2 * np.log(3) ** 2 - variance  # two languages: their variance about the mean, less the sampling variance
    assert found["en"].offset == pytest.approx(np.log(3) * between / (between + variance))
    assert (found["en"].rows, found["en"].source) == (400, "dev rows")


def test_rows_of_one_query_count_less_than_rows_of_many():
    labels, languages = [1, 1, 1, 0] * 100 + [1, 0, 0, 0] * 100, ["en"] * 400 + ["de"] * 400
    apart = language_offsets(labels, np.zeros(800), [str(n) for n in range(800)], languages)
    # labels lie in runs of 10 rows of a query: ten queries of 1, ten of 0, and so on
    labels = np.repeat([1, 1, 1, 0] * 10 + [1, 0, 0, 0] * 10, 10)
    together = language_offsets(labels, np.zeros(800), [str(n // 10) for n in range(800)], languages)
    assert together["en"].own_offset == pytest.approx(apart["en"].own_offset)
    assert 0 < together["en"].offset < apart["en"].offset


def test_languages_that_differ_by_chance_alone_get_no_offset():
    labels = [1] * 50 + [0] * 50 + [1] * 52 + [0] * 48 + [1] * 48 + [0] * 52
    found = language_offsets(labels, np.zeros(300), [str(n) for n in range(300)], np.repeat(["de", "en", "fr"], 100))
    assert [each.offset for each in found.values()] == [0, 0, 0]
    assert found["en"].own_offset == pytest.approx(np.log(52 / 48))


def test_few_rows_and_rows_of_one_label_shift_little():
    made, logits = by_language({"de": -1.0, "en": 1.0, "fr": 0.0})
    few = by_language({"pl": -4.0}, count=6)
    one_label = rows([1] * 5, ["ko"] * 5)
    found = tune(
        [*made, *few[0], *one_label], [*logits, *few[1], *np.zeros(5)], CalibrationOptions(by_language=True), ["en"]
    ).calibration.by_language
    kept = {code: each.offset / each.own_offset for code, each in found.items()}
    assert min(kept["de"], kept["en"]) > 0.9
    assert kept["ko"] < 0.1
    assert kept["pl"] < kept["de"]


def test_one_language_alone_gets_no_offset():
    made, logits = by_language({"en": 2.0})
    assert tune(made, logits, CalibrationOptions(by_language=True), ["en"]).calibration.by_language["en"].offset == 0


def test_offsets_by_language_make_one_threshold_fit_all():
    made, logits = by_language({"en": 2.0, "de": -2.0, "pl": 0.0})
    labels, languages = [r.label for r in made], [r.pair.language for r in made]
    before = tune(made, logits, CalibrationOptions(), ["en"])
    after = tune(made, logits, CalibrationOptions(by_language=True), ["en"])
    assert (after.language_thresholds, set(before.language_thresholds)) == ({}, {"de", "pl"})
    assert after.log_loss_after < before.log_loss_after - 0.05
    assert auc(labels, after.scores(logits, languages)) > auc(labels, before.scores(logits, languages)) + 0.03
    for code in ("en", "de", "pl"):
        part = np.array(languages) == code
        assert after.scores(logits, languages)[part].mean() == pytest.approx(np.array(labels)[part].mean(), abs=0.02)


def test_a_fixed_threshold_stays():
    logits, labels = drawn(100, 1.0, 0.0)
    assert tune(rows(labels), logits, CalibrationOptions(threshold=0.4), ["en"]).threshold == 0.4


def test_a_language_that_training_lacks_gets_a_matched_threshold_without_its_labels():
    logits, labels = drawn(700, 1.0, 0.5)
    logits[500:] -= 5.0
    languages = ["en"] * 500 + ["pl"] * 200
    found = tune(rows(labels, languages), logits, CalibrationOptions(platt=False), ["en"])
    scores = found.scores(logits, languages)
    share = (scores[:500] >= found.threshold).mean()
    assert (scores[500:] >= found.threshold_for("pl")).mean() == pytest.approx(share, abs=0.01)
    assert found.threshold_sources["pl"].method == "matched"
