"""Batches hold rows of similar length, or the rows of a query together; copies of a row weigh as much as one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fitting.recipe import TrainingSection
from training.fitting.rows.row_facts import copy_factors, query_counts
from training.fitting.rows.sampling import length_grouped_batches, query_batches, training_batches

LENGTHS = np.array([5 + i % 7 for i in range(100)])
QUERIES = np.array([i // 4 if i < 80 else 20 for i in range(100)])  # 20 queries of four rows, one of twenty


def batches(seed=3, **settings):
    section = TrainingSection(**{"batch_size": 16} | settings)
    return as_lists(training_batches(LENGTHS, QUERIES, section, seed))


def as_lists(made):
    return [batch.tolist() for batch in made]


def by_length(lengths, batch_size, seed, window=32):
    return as_lists(length_grouped_batches(np.array(lengths), batch_size, seed, window))


def test_without_switches_batches_are_those_of_similar_length():
    assert batches(epochs=2) == by_length(LENGTHS, 16, 3) + by_length(LENGTHS, 16, 3 + 7919)
    assert len(batches(epochs=1.5)) == round(7 * 1.5)
    assert len(batches(epochs=0.001)) == 1
    assert batches(epochs=0) == []


@given(st.lists(st.integers(1, 64), min_size=1, max_size=300), st.integers(1, 20), st.integers(0, 5))
def test_every_row_is_in_one_batch(lengths, batch_size, seed):
    batches = by_length(lengths, batch_size, seed, window=4)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)
    assert batches == by_length(lengths, batch_size, seed, window=4)


def test_batches_hold_rows_of_like_length():
    lengths = [(i * 37) % 61 + 4 for i in range(3200)]
    padded = sum(max(lengths[i] for i in b) * len(b) for b in by_length(lengths, 32, 0))
    assert padded < 1.1 * sum(lengths)


def test_epochs_differ():
    assert by_length([5] * 64, 8, 0) != by_length([5] * 64, 8, 1)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=80), st.integers(2, 9))
def test_rows_of_a_query_are_in_one_batch_unless_they_are_too_many(queries, batch_size):
    units = [np.flatnonzero(np.array(queries) == q) for q in sorted(set(queries))]
    made = as_lists(query_batches(units, np.full(len(queries), 5), batch_size, np.random.default_rng(1), window=2))
    assert sorted(i for batch in made for i in batch) == list(range(len(queries)))
    assert max(map(len, made)) <= batch_size
    for query, count in Counter(queries).items():
        held = sum(any(queries[i] == query for i in batch) for batch in made)
        assert held <= -(-count // batch_size)


@pytest.mark.parametrize("switch", [{"lambdarank_weight": 1}, {"teacher": "t.jsonl"}])
def test_terms_within_a_query_hold_its_rows_together(switch):
    made = batches(**switch)
    held = Counter(query for batch in made for query in {QUERIES[i] for i in batch})
    assert held == dict.fromkeys(range(20), 1) | {20: 2}


def test_padding_stays_small_where_queries_are_held_together():
    lengths = [(i // 3 * 37) % 61 + 4 for i in range(3000)]
    units = [np.arange(at, at + 3) for at in range(0, 3000, 3)]
    made = query_batches(units, np.array(lengths), 32, np.random.default_rng(0))
    assert sum(max(lengths[i] for i in b) * len(b) for b in made) < 1.15 * sum(lengths)
    assert len(made) < 1.15 * 3000 / 32


def test_copies_weigh_as_much_as_one_row():
    factors = copy_factors([0, 0, 0, 1, 2, 2])
    assert factors.mean() == pytest.approx(1)
    assert factors.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2, 1, 1])


def test_queries_of_one_class_are_counted():
    counts = query_counts([1, 0, 1, 1, 0.5, 0.7, 0], [0, 0, 1, 1, 2, 2, 3])
    assert (counts.queries, counts.one_class_queries, counts.one_class_rows) == (4, 2, 3)
