import numpy as np
import pytest

from relevance.evaluation.metrics import always_yes_f1, f1
from relevance.tasks import LabeledPair, Pair
from training.fitting.evaluation.thresholds import choose_thresholds, seen_languages, warn_of_missing

RNG = np.random.default_rng(1)


def language(rows: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [N], two thirds of them 1, and scores [N] of a fair model, shifted as a whole."""
    labels = (RNG.random(rows) < 0.67).astype(int)
    logits = 1.5 * labels + RNG.normal(size=rows) + shift
    return labels, 1 / (1 + np.exp(-logits))


EN, PL, JA = language(600, 0.0), language(300, -4.0), language(40, -4.0)
LABELS, SCORES = (np.concatenate(parts) for parts in zip(EN, PL, JA, strict=True))
LANGUAGES = ["en"] * 600 + ["pl"] * 300 + ["ja"] * 40


def test_threshold_of_a_language_without_labels_follows_its_scores():
    chosen = choose_thresholds(LABELS, SCORES, LANGUAGES, ["en"])
    before, after = (f1(PL[0], PL[1] >= cut) for cut in (chosen.overall, chosen.by_language["pl"]))
    assert before < 0.2
    assert after > always_yes_f1(PL[0])
    assert chosen.sources["pl"].method == "matched"
    assert chosen.sources["pl"].rows == 300
    share = (PL[1] >= chosen.by_language["pl"]).mean()
    assert share == pytest.approx((EN[1] >= chosen.overall).mean(), abs=0.01)


def test_labels_of_languages_that_training_lacks_are_not_looked_at():
    other = np.where(np.array(LANGUAGES) == "en", LABELS, 1 - LABELS)
    assert choose_thresholds(other, SCORES, LANGUAGES, ["en"]) == choose_thresholds(LABELS, SCORES, LANGUAGES, ["en"])


def test_too_few_pairs_and_languages_never_met_are_warned_of(caplog):
    chosen = choose_thresholds(LABELS, SCORES, LANGUAGES, ["en"])
    assert set(chosen.by_language) == {"pl"}
    warn_of_missing(chosen, ["en"], LANGUAGES)
    assert "languages ja: no threshold of their own" in caplog.text
    caplog.clear()
    warn_of_missing(choose_thresholds(*EN, ["en"] * 600, ["en"]), ["en"], ["en"])
    assert "all languages that training did not see: no threshold of their own" in caplog.text


def test_pairs_of_live_traffic_serve_as_dev_rows_do():
    chosen = choose_thresholds(*EN, ["en"] * 600, ["en"]).with_pairs(PL[1], ["pl"] * 300)
    assert chosen.by_language == choose_thresholds(LABELS, SCORES, LANGUAGES, ["en"]).by_language
    assert chosen.sources["pl"].source == "unlabelled pairs"


def test_dev_without_a_seen_language_is_used_whole():
    assert choose_thresholds(*PL, ["pl"] * 300, ["en"]).by_language == {}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_nothing_stays_all_or_nothing(share):
    chosen = choose_thresholds(*EN, ["en"] * 600, ["en"], overall=1.0 - share)
    cut = chosen.with_pairs(PL[1], ["pl"] * 300).by_language["pl"]
    assert (PL[1] >= cut).mean() == share


def test_translated_rows_make_no_language_a_seen_one():
    rows = [
        LabeledPair(Pair("shoe", "x", "en"), 1, "1"),
        LabeledPair(Pair("schuh", "x", "de"), 1, "1~de", {"source": "translation", "source_id": "1"}),
        LabeledPair(Pair("zapato", "x", "es"), 1, "2"),
    ]
    assert seen_languages(rows) == ["en", "es"]
