"""Which pairs a cascade passes on, and what the scores of both stages are worth."""

import numpy as np
import pytest

from relevance.model.card import Calibration, LanguageOffset
from relevance.model.cascade import Band, CascadeRule, Scale
from tests.cascades import some_pairs
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "qc")


def changed(card, scale, threshold, **by_language):
    offset = LanguageOffset(offset=0.7, own_offset=0.7, rows=9, source="dev")
    calibration = Calibration(scale=scale, offset=0.2, by_language={"ja": offset})
    update = {"calibration": calibration, "threshold": threshold, "language_thresholds": by_language}
    return card.model_copy(update=update)


SAME = Scale(slope=1, offset=0)
LOGITS = np.linspace(-6, 6, 200, dtype=np.float32)
LANGUAGES = [pair.language for pair in some_pairs(200)]


def test_pairs_that_are_not_passed_on_are_labelled_by_the_large_models_thresholds(card):
    small, large = changed(card, 0.5, 0.3, ja=0.8), changed(card, 2.0, 0.6, ja=0.1)
    rule = CascadeRule(small, large, Scale(slope=2.0, offset=-0.3), Band(below=0, above=0))
    logits, passed = rule.first(LOGITS, LANGUAGES)
    assert not passed.any()
    np.testing.assert_allclose(logits, 2 * small.calibration.logits(LOGITS, LANGUAGES) - 0.3, atol=1e-5)
    cascade = large.model_copy(update={"calibration": Calibration()})
    labels = cascade.labels(cascade.scores(logits), LANGUAGES)
    assert labels.tolist() == (rule.distances(LOGITS, LANGUAGES) >= 0).tolist()
    assert 0 < labels.mean() < 1


def test_scores_of_the_large_model_stay_as_they_are(card):
    large = changed(card, 2.0, 0.6, ja=0.1)
    rule = CascadeRule(card, large, SAME, Band(below=9, above=9))
    cascade = large.model_copy(update={"calibration": Calibration()})
    scores = cascade.scores(rule.second(LOGITS, LANGUAGES))
    np.testing.assert_allclose(scores, large.scores(LOGITS, LANGUAGES), atol=1e-6)


def test_band_lies_around_the_threshold_of_each_language(card):
    rule = CascadeRule(card, card, SAME, Band(below=1, above=2))  # thresholds: 0.5, in ja 0.9
    for language, cut in (("en", 0.0), ("ja", np.log(9))):
        _, passed = rule.first(LOGITS, [language] * len(LOGITS))
        assert passed.tolist() == [bool(cut - 1 <= z < cut + 2) for z in LOGITS]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_threshold_without_a_logit_gives_finite_scores(card, threshold):
    rule = CascadeRule(card, changed(card, 1.0, threshold), SAME, Band(below=1, above=1))
    assert np.isfinite(rule.first(LOGITS, LANGUAGES)[0]).all()
