import numpy as np
import pytest

from relevance.evaluation.metrics import Scored, always_yes_f1
from relevance.evaluation.ranking import Lists, Rankings
from relevance.tasks import LabeledPair, Pair
from training.reports.curves import budget_curve, calibration_curve, threshold_curve

RNG = np.random.default_rng(0)


def scored(scores, labels, queries=None):
    count = len(labels)
    queries = queries or [str(n) for n in range(count)]
    return Scored(list(labels), list(scores), queries, ["en"] * count, [0.5] * count, Lists(queries))


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not():
    truth = RNG.random(20_000)
    labels = (RNG.random(20_000) < truth).astype(int)
    curve = calibration_curve(scored(truth, labels))
    assert curve.ece < 0.02
    assert {each.rows for each in curve.bins} == {2000}
    assert calibration_curve(scored(np.round(truth), labels)).ece == pytest.approx(0.25, abs=0.02)


def test_few_rows_have_few_bins():
    assert len(calibration_curve(scored(RNG.random(60), RNG.integers(0, 2, 60))).bins) == 2
    assert calibration_curve(scored([0.4], [1])).ece == pytest.approx(0.6)


def test_the_threshold_curve_starts_at_always_yes():
    labels = RNG.integers(0, 2, 300)
    curve = threshold_curve(scored(RNG.random(300) * 0.9, labels))
    assert curve.f1[0] == pytest.approx(always_yes_f1(labels))
    assert (curve.f1[-1], len(curve.f1)) == (0, 101)


def listed(count=40, size=7):
    """Queries whose relevant candidate is unlike the query, and whose others are all like it."""
    rows, scores = [], []
    for query in range(count):
        for place in range(size):
            relevant = place == 3
            title = "kaffeetasse" if relevant else f"red shoe {place}"
            rows.append(LabeledPair(Pair(f"red shoe nr {query}", title, "en"), int(relevant), f"{query}-{place}"))
            scores.append(0.9 if relevant else 0.1 + place / 100)
    return rows, scored(scores, [row.label for row in rows], [row.pair.query for row in rows])


def test_the_budget_curve_rises_from_the_cheap_order_to_that_of_the_model():
    rows, given = listed()
    curve = budget_curve(rows, given)
    assert [point.candidates for point in curve.points] == [0, 2, 3, 5, 7]
    assert [point.pairs for point in curve.points] == [0, 2, 3, 5, 7]
    values = [point.ndcg_at_10.value for point in curve.points]
    assert values[0] == pytest.approx(1 / np.log2(1 + 7))  # the relevant candidate is the last one of the cheap order
    assert values[:4] == [values[0]] * 4
    assert [point.gain.value for point in curve.points] == pytest.approx([value - values[0] for value in values])
    assert curve.points[0].gain.high == 0 < curve.points[4].gain.low
    assert values[4] == pytest.approx(float(np.mean(Rankings(given.lists, given.labels).ndcg(given.scores)))) == 1


def test_the_order_of_the_file_changes_no_point_of_the_curve_that_has_no_ties():
    rows, given = listed(1)
    order = RNG.permutation(len(rows))
    mixed = scored(*([values[n] for n in order] for values in (given.scores, given.labels, given.queries)))
    again = budget_curve([rows[n] for n in order], mixed)
    assert [p.ndcg_at_10.value for p in again.points] == [p.ndcg_at_10.value for p in budget_curve(rows, given).points]


def test_nothing_to_rank_has_no_budget_curve():
    rows, given = listed(2)
    assert budget_curve(rows, scored(given.scores, [1] * len(rows), list(given.queries))) is None
