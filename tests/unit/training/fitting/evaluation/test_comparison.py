"""Paired differences of two models on the same rows."""

from dataclasses import replace

import numpy as np
import pytest

from relevance.evaluation.metrics import Scored, auc, f1
from relevance.evaluation.ranking import Lists, Rankings
from training.fitting.evaluation.comparison import compare

NAMES = ("other", "models/other")
RNG = np.random.default_rng(0)
COUNT = 600
LABELS = RNG.integers(0, 2, COUNT)
QUERIES = [f"q{n // 6}" for n in range(COUNT)]
LANGUAGES = ["de" if n // 6 % 4 == 0 else "en" for n in range(COUNT)]
NOISE = RNG.random(COUNT)


def scored(signal, noise=NOISE, threshold=0.5):
    scores = signal * LABELS + (1 - signal) * noise
    return Scored(LABELS.tolist(), scores.tolist(), QUERIES, LANGUAGES, [threshold] * COUNT, Lists(QUERIES))


def test_a_clearly_better_model_is_better_and_the_other_one_worse():
    good, poor = scored(0.3), scored(0.1)
    found, back = compare(good, poor, NAMES), compare(poor, good, NAMES)
    assert (found.verdict, back.verdict) == ("better", "worse")
    assert found.auc.difference.low > 0
    assert found.auc.difference.value == pytest.approx(auc(LABELS, good.scores) - auc(LABELS, poor.scores))
    assert found.f1.model == pytest.approx(f1(LABELS, np.array(good.scores) >= 0.5))
    assert back.auc.difference.value == -found.auc.difference.value
    assert set(found.languages) == {"de", "en"}
    rankings = Rankings(good.lists, LABELS)
    gain = np.mean(rankings.ndcg(good.scores) - rankings.ndcg(poor.scores))
    assert found.ndcg_at_10.difference.value == pytest.approx(gain)
    assert found.ndcg_at_10.difference.low > 0
    assert found.line().startswith("better than models/other: AUC +0.")


def test_a_model_beside_itself_is_the_same_without_an_interval_to_speak_of():
    found = compare(scored(0.2), scored(0.2), NAMES)
    assert found.verdict == "same"
    for each in (found.auc, found.f1, found.ndcg_at_10):
        assert (each.difference.value, each.difference.low, each.difference.high) == (0, 0, 0)


def test_pairing_narrows_the_interval():
    alike = compare(scored(0.2), scored(0.2, NOISE + 0.05 * np.random.default_rng(1).random(COUNT)), NAMES)
    apart = compare(scored(0.2), scored(0.2, np.random.default_rng(2).random(COUNT)), NAMES)
    width = [found.auc.difference.high - found.auc.difference.low for found in (alike, apart)]
    assert width[0] < width[1] / 3


def test_thresholds_move_f1_and_neither_auc_nor_the_verdict():
    found = compare(scored(0.2), scored(0.2, threshold=0.9), NAMES)
    assert found.f1.difference.low > 0
    assert (found.auc.difference.value, found.verdict) == (0, "same")


def test_rows_of_one_label_are_not_compared_and_rows_without_lists_have_no_ndcg():
    positive = replace(scored(0.2), labels=[1] * COUNT)
    found = compare(positive, positive, NAMES)
    assert (found.verdict, found.auc.model, found.ndcg_at_10) == ("unknown", None, None)
    assert "one label" in found.line()
    assert compare(replace(scored(0.3), lists=None), scored(0.2), NAMES).ndcg_at_10 is None
