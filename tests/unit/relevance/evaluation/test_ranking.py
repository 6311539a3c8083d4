"""Ranking metrics against scikit-learn, and against the mean over all orders of equal scores."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from relevance.evaluation.ranking import DEPTH, Lists, Rankings, measure_ranking

candidates = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=14)
queries = st.lists(candidates, min_size=1, max_size=6)


def flat(given_queries):
    keys = [f"q{n}" for n, rows in enumerate(given_queries) for _ in rows]
    gains = np.array([gain for rows in given_queries for gain, _ in rows], dtype=float)
    scores = np.array([score for rows in given_queries for _, score in rows]) / 6
    return keys, gains, scores


@given(queries)
def test_ndcg_and_pairwise_accuracy_equal_scikit_learn_in_each_query(given_queries):
    keys, gains, scores = flat(given_queries)
    labels = (gains > 1).astype(int)
    shuffled = np.random.default_rng(0).permutation(len(keys))
    found = Rankings(Lists([keys[i] for i in shuffled], gains[shuffled].tolist(), "grade"), labels[shuffled])
    parts = [np.flatnonzero(np.array(keys) == key) for key in dict.fromkeys(keys)]
    judged = [part for part in parts if len(set(labels[part])) == 2]
    assert len(found) == len(judged)
    assert found.single == sum(len(part) == 1 for part in parts)
    assert found.one_class == len(parts) - found.single - len(judged)
    scores_in_order, expected = scores[shuffled], []
    for part in judged:
        expected.append((ndcg_score([gains[part]], [scores[part]], k=DEPTH), roc_auc_score(labels[part], scores[part])))
    if judged:
        np.testing.assert_allclose(found.ndcg(scores_in_order), [value for value, _ in expected])
        np.testing.assert_allclose(found.pairwise_accuracy(scores_in_order), [value for _, value in expected])


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=6))
def test_mrr_is_the_mean_over_all_orders_of_equal_scores(rows):
    labels, scores = [label for label, _ in rows], [score for _, score in rows]
    found = Rankings(Lists(["q"] * len(rows)), labels)
    if len(set(labels)) < 2:
        assert len(found) == 0
        return
    ranks = []
    for order in permutations(range(len(rows))):
        by_score = sorted(order, key=lambda place: -scores[place])
        ranks.append(1 + next(rank for rank, place in enumerate(by_score) if labels[place]))
    assert found.mrr(scores)[0] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_ranks_after_the_tenth_count_nothing():
    labels = [0] * 10 + [1]
    found = Rankings(Lists(["q"] * 11), labels)
    assert found.mrr(np.arange(11)[::-1]) == [0]
    assert found.ndcg(np.arange(11)[::-1]) == [0]
    assert found.mrr(np.zeros(11)) == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 11)
    assert found.mrr(np.arange(11)) == [1]


def test_precision_is_of_the_candidates_at_the_threshold():
    found = Rankings(Lists(["a", "a", "a", "b", "b"]), [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(found.precision([True, True, False, False, False]), [0.5, np.nan])


def test_better_scores_have_better_metrics_and_intervals_hold_the_values():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 800)
    keys = [f"q{n // 5}" for n in range(800)]
    rankings = Rankings(Lists(keys), labels)
    good, poor = labels + rng.normal(size=800), labels * 0.2 + rng.normal(size=800)
    better, worse = (measure_ranking(rankings, s, s > 0.5, keys, 200, 0) for s in (good, poor))
    for name in ("ndcg_at_10", "mrr_at_10", "precision", "pairwise_accuracy"):
        found = getattr(better, name)
        assert found.low < found.value < found.high
        assert getattr(worse, name).value < found.low


def test_queries_of_one_label_are_counted_and_not_judged():
    found = measure_ranking(
        Rankings(Lists(["a", "a", "b", "b", "c"]), [1, 1, 0, 0, 1]), np.zeros(5), np.ones(5), ["g"] * 5, 10, 0
    )
    assert (found.queries, found.one_class, found.single) == (0, 2, 1)
    assert found.ndcg_at_10.value is None
    assert found.precision.low is None


def test_linked_queries_are_drawn_together():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 400), rng.random(400)
    keys = [f"q{n // 4}" for n in range(400)]
    rankings = Rankings(Lists(keys), labels)
    alone = measure_ranking(rankings, scores, scores > 0.5, keys, 400, 0).ndcg_at_10
    linked = measure_ranking(rankings, scores, scores > 0.5, [str(n // 80) for n in range(400)], 400, 0).ndcg_at_10
    assert linked.value == alone.value
    assert linked.low != alone.low
