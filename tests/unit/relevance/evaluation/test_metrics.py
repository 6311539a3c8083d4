from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from relevance.evaluation.intervals import Interval
from relevance.evaluation.metrics import Report, Scored, always_yes_f1, auc, best_threshold, evaluate, f1, histogram
from relevance.evaluation.ranking import Lists

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60)


@given(rows)
def test_f1_and_auc_equal_scikit_learn(pairs):
    labels, scores = [y for y, _ in pairs], [s / 20 for _, s in pairs]
    predictions = [s >= 0.5 for s in scores]
    assert f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, zero_division=0))
    if len(set(labels)) == 2:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert auc(labels, scores) is None


@given(rows)
def test_no_threshold_beats_the_best_one(pairs):
    labels, scores = np.array([y for y, _ in pairs]), np.array([s / 20 for _, s in pairs])
    threshold, best = best_threshold(labels, scores)
    assert 0 <= threshold <= 1
    assert best == pytest.approx(f1(labels, scores >= threshold))
    assert best >= max(f1(labels, scores >= cut) for cut in np.linspace(0, 1, 41)) - 1e-12


def test_always_yes_f1_follows_from_the_positive_rate():
    assert always_yes_f1([1, 1, 0]) == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))


def scored(n=400, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    labels = (rng.random(n) < scores).astype(int)
    languages = np.where(np.arange(n) % 4 == 0, "de", "en")
    return Scored(labels.tolist(), scores.tolist(), [f"q{i // 2}" for i in range(n)], languages.tolist())


def test_report_splits_seen_and_unseen_and_languages():
    report = evaluate(scored(), 0.5, ["en"], resamples=100)
    assert set(report.languages) == {"de", "en"}
    assert report.seen == report.languages["en"]
    assert report.unseen == report.languages["de"]
    assert report.all.rows == report.seen.rows + report.unseen.rows
    for part in (report.all.f1, report.all.auc, report.all.f1_gain):
        assert part.low < part.value < part.high


def test_report_repeats_with_its_seed_and_moves_with_another():
    assert evaluate(scored(), 0.5, resamples=60) == evaluate(scored(), 0.5, resamples=60)
    assert evaluate(scored(), 0.5, resamples=60).all.f1 != evaluate(scored(), 0.5, resamples=60, seed=1).all.f1


def test_intervals_widen_when_rows_of_one_query_repeat():
    one = scored(100)
    copies = 8
    many = Scored(*([value for value in part for _ in range(copies)] for part in
                    (one.labels, one.scores, one.queries, one.languages)))  # fmt: skip
    width = [r.all.f1.high - r.all.f1.low for r in (evaluate(one, 0.5), evaluate(many, 0.5))]
    assert width[1] == pytest.approx(width[0], rel=0.25)  # by rows it would shrink by the root of 8


def test_one_class_has_no_auc():
    report = evaluate(Scored([1, 1], [0.2, 0.8], ["a", "b"], ["en", "en"]), 0.5, resamples=10)
    assert report.all.auc.value is None
    assert report.all.f1.value == pytest.approx(2 / 3)


def test_rows_without_a_positive_one_have_no_f1():
    report = evaluate(Scored([0, 0], [0.2, 0.8], ["a", "b"], ["en", "en"]), 0.5, resamples=10)
    nothing = Interval(value=None, low=None, high=None)
    assert report.all.f1 == report.all.always_yes_f1 == report.all.f1_gain == nothing
    assert f"{report.all.f1:.3f}" == "-"


def test_draws_without_a_positive_row_do_not_pull_the_interval_of_f1_down():
    report = evaluate(Scored([1, 0, 0, 0], [0.9, 0.1, 0.1, 0.1], ["a", "b", "c", "d"], ["en"] * 4), 0.5)
    assert (report.all.f1.low, report.all.f1.value) == (1, 1)


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        evaluate(Scored([], [], [], []), 0.5)
    with pytest.raises(ValueError, match="no rows"):
        best_threshold([], [])


def test_histogram_counts_the_ends():
    assert histogram([0.0, 1.0, 0.5], bins=2) == [1, 2]


def test_a_file_with_lists_has_a_ranking_by_language_and_one_without_has_none():
    given = scored()
    queries = [f"q{n // 4} {language}" for n, language in enumerate(given.languages)]
    report = evaluate(replace(given, lists=Lists(queries)), 0.5, resamples=20)
    assert set(report.ranking.languages) == {"en"}  # a fourth of each query's rows is German: one candidate each
    assert report.ranking.all.single == 100
    assert report.ranking.all.queries == report.ranking.languages["en"].queries > 50
    assert report.ranking.gains == "label"
    assert evaluate(given, 0.5, resamples=20).ranking is None
    alone = Lists([str(n) for n in range(400)])
    assert evaluate(replace(given, lists=alone), 0.5, resamples=20).ranking is None
    without = Report.model_validate_json(report.model_dump_json(exclude={"ranking"}))
    assert without == evaluate(given, 0.5, resamples=20)  # a card of an earlier release


def test_thresholds_of_rows_decide_the_precision_of_a_ranking():
    given = Scored([1, 0, 0, 1], [0.9, 0.6, 0.3, 0.8], ["a"] * 4, ["en"] * 4, lists=Lists(["a"] * 4))
    assert evaluate(given, 0.5, resamples=1).ranking.all.precision.value == pytest.approx(2 / 3)
    strict = replace(given, thresholds=[0.7] * 4)
    assert evaluate(strict, 0.5, resamples=1).ranking.all.precision.value == 1
