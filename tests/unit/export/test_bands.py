"""The band of a cascade: the least share that is passed on for a stated loss of F1, out of all bands."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bands import StageScores, choose_band, common_scale, held_out
from relevance.errors import InputError
from relevance.evaluation.metrics import f1
from relevance.model.cascade import Band


def rows(count, seed=0, skill=1.0):
    """Return scores of a small model and labels of a larger one, both better than chance."""
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.6
    distances = rng.normal(size=count) + skill * (2 * labels - 1)
    large = np.where(rng.random(count) < 0.9, labels, ~labels)
    return StageScores(labels, distances, large)


def best_of_all(scores, loss):
    """Return the fewest rows that any band passes on within the loss, found by trying every band."""
    d, allowed = scores.distances, f1(scores.labels, scores.large) - loss - 1e-12
    belows = [0.0, *(-d[d < 0] + 1e-9)]
    aboves = [0.0, *(d[d >= 0] + 1e-9)]
    passed = [Band(below=b, above=a).holds(d) for b, a in itertools.product(belows, aboves)]
    return min(p.sum() for p in passed if f1(scores.labels, np.where(p, scores.large, d >= 0)) >= allowed)


@given(st.integers(2, 40), st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.05, 0.3]), st.sampled_from([0.0, 0.8]))
def test_band_passes_on_the_fewest_rows_of_all_bands(count, seed, loss, skill):
    scores = rows(count, seed, skill)
    band = choose_band(scores, loss)
    found = scores.passing(band.holds(scores.distances))
    assert found.loss <= loss + 1e-9
    assert round(found.passed_on * count) == best_of_all(scores, loss)


def test_equal_distances_are_passed_on_together():
    distances = np.repeat([-1.0, -0.5, 0.5, 1.0], 5)
    labels = np.array([True, False] * 10)
    band = choose_band(StageScores(labels, distances, labels), 0.0)
    assert {float(d) for d in distances[band.holds(distances)]} == {-1.0, -0.5, 0.5, 1.0}


def test_more_loss_passes_on_less():
    scores = rows(3000)
    shares = [choose_band(scores, loss).holds(scores.distances).mean() for loss in (0.0, 0.01, 0.03, 0.1)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1] == 0


def test_small_model_without_any_negative_label_keeps_a_band_above():
    scores = StageScores(np.array([True, False, True]), np.array([0.1, 0.2, 0.9]), np.array([True, False, True]))
    band = choose_band(scores, 0.0)
    assert band.below == 0
    assert scores.passing(band.holds(scores.distances)).loss == 0


def test_held_out_bands_are_chosen_without_the_rows_that_they_are_measured_on():
    scores = rows(400, skill=0.3)
    queries = [f"query {n % 100}" for n in range(400)]
    apart = held_out(scores, queries, 0.0)
    chosen = scores.passing(choose_band(scores, 0.0).holds(scores.distances))
    assert apart.rows == chosen.rows
    assert (apart.small, apart.large) == (chosen.small, chosen.large)
    assert apart.loss > chosen.loss == pytest.approx(0, abs=1e-9)


def test_scale_gives_equal_logits_equal_odds():
    rng = np.random.default_rng(3)
    odds = rng.normal(size=40_000)
    labels = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    scale = common_scale((odds - 0.4) / 1.5, 0.5 * odds + 1, labels)  # both know the odds, on scales of their own
    assert (scale.slope, scale.offset) == (pytest.approx(0.75, abs=0.02), pytest.approx(1.2, abs=0.02))


def test_labels_that_logits_part_leave_the_scale_finite():
    logits = np.array([-2.0, -1.0, 1.0, 2.0])
    assert common_scale(logits, logits, logits > 0).slope == pytest.approx(1)


def test_model_worse_than_chance_is_named():
    logits = np.linspace(-2, 2, 50)
    with pytest.raises(InputError, match="the small model's scores do not rise"):
        common_scale(-logits, logits, logits > 0)
