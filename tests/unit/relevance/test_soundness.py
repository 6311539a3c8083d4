import numpy as np
import pytest

from relevance.soundness import Labelling, findings

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


def test_languages_are_judged_apart_where_they_have_enough_pairs():
    languages = ["en"] * 340 + ["ja"] * 50 + ["pl"] * 10
    predicted = np.where(np.array(languages) == "en", GOOD >= 0.5, False)
    found = findings(Labelling(GOOD, predicted, languages=languages))
    assert found == ("language ja: 0% of 50 pairs are labelled 1, so the label says next to nothing",)


def test_few_pairs_say_nothing():
    assert findings(Labelling([0.9] * 10, [True] * 10, [1, 0] * 5)) == ()
    assert findings(Labelling([], [])) == ()
