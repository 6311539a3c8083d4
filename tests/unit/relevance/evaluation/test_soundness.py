import numpy as np
import pytest

from relevance.evaluation.intervals import Interval
from relevance.evaluation.soundness import Advice, CosineGain, Labelling, cosine_gains, findings

RNG = np.random.default_rng(0)
LABELS = (RNG.random(400) < 0.5).astype(int)
GOOD = np.clip(LABELS * 0.4 + RNG.random(400) * 0.6, 0, 1)


def test_a_good_model_is_given_no_warning():
    assert findings(Labelling(GOOD, GOOD >= 0.5, LABELS, ["en"] * 200 + ["de"] * 200, cosine_auc=0.6)) == ()


@pytest.mark.parametrize(
    ("scores", "predicted", "message"),
    [
        (GOOD, GOOD >= 0, "100% of 400 pairs are labelled 1"),
        (GOOD, GOOD >= 2, "0% of 400 pairs are labelled 1"),
        (0.7 + GOOD / 1000, GOOD >= 0.5, "the scores collapse"),
        (GOOD, LABELS == 0, "F1 0.000 is no better than always saying yes"),
        (1 - GOOD, GOOD >= 0.5, "no better than chance"),
    ],
)
def test_each_kind_of_useless_label_is_named(scores, predicted, message):
    assert any(message in finding for finding in findings(Labelling(scores, predicted, LABELS)))


def test_cosine_that_does_as_well_is_named():
    assert "base model's cosine, 0.990" in findings(Labelling(GOOD, GOOD >= 0.5, LABELS, cosine_auc=0.99))[0]


def test_gains_over_the_cosine_are_paired_and_by_language():
    labels = [1] * 30 + [0] * 30
    perfect, flat = np.array(labels) * 0.5, np.full(60, 0.1)
    swapped = perfect.copy()
    swapped[[0, 30]] = 0.0, 0.5  # one positive and one negative of 900 pairs: three ties of halves less than a win
    scores = np.concatenate([perfect, perfect, swapped, perfect[:40]])
    cosines = np.concatenate([flat, perfect - 1, perfect, flat[:40]])
    languages = ["en"] * 60 + ["de"] * 60 + ["fr"] * 60 + ["pl"] * 40
    groups = [f"q{n}" for n in range(220)]
    gains = cosine_gains(labels * 3 + labels[:40], scores, cosines, groups, languages)
    assert set(gains) == {"de", "en", "fr"}  # pl has too few rows
    assert gains["en"] == CosineGain(rows=60, auc=1.0, cosine_auc=0.5, gain=Interval(value=0.5, low=0.5, high=0.5))
    assert (gains["de"].gain.value, gains["de"].advice) == (0.0, Advice.KEEP_ORDER)
    assert gains["fr"].gain.value == pytest.approx(-1 + 841 / 900 + 2 * 29 / 900 / 2)
    assert [gains[code].advice for code in ("en", "fr")] == [Advice.RERANK, Advice.KEEP_ORDER]
    found = findings(Labelling(GOOD, GOOD >= 0.5, LABELS, gains=gains))
    assert [each.partition(":")[0] for each in found] == ["language de", "language fr"]
    assert "AUC 0.967 is no better than that of the base model's cosine, 1.000 (difference -0.033 [" in found[1]


def test_a_gain_that_may_be_chance_is_unproven():
    labels = [1] * 30 + [0] * 30
    cosines = np.array(labels) * 0.5
    cosines[0] = 0.0
    gains = cosine_gains(labels, np.array(labels) * 0.5, cosines, [f"q{n}" for n in range(60)], ["en"] * 60)
    assert gains["en"].gain.value == pytest.approx(1 / 60)
    assert (gains["en"].gain.low, gains["en"].advice) == (0.0, Advice.UNPROVEN)


def test_both_scorers_are_resampled_alike_by_group():
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.5).astype(int)
    scores = labels + rng.normal(0, 1, 200)
    groups = [f"q{n // 4}" for n in range(200)]
    same = cosine_gains(labels, scores, 2 * scores - 3, groups, ["en"] * 200)["en"].gain
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_languages_are_judged_apart_where_they_have_enough_pairs():
    languages = ["en"] * 340 + ["ja"] * 50 + ["pl"] * 10
    predicted = np.where(np.array(languages) == "en", GOOD >= 0.5, False)
    found = findings(Labelling(GOOD, predicted, languages=languages))
    assert found == ("language ja: 0% of 50 pairs are labelled 1, so the label says next to nothing",)


def test_few_pairs_say_nothing():
    assert findings(Labelling([0.9] * 10, [True] * 10, [1, 0] * 5)) == ()
    assert findings(Labelling([], [])) == ()
