from hypothesis import given
from hypothesis import strategies as st

from training.fitting.schedule import evaluation_steps, length_grouped_batches, rate_factor


@given(st.lists(st.integers(1, 64), min_size=1, max_size=300), st.integers(1, 20), st.integers(0, 5))
def test_every_row_is_in_one_batch(lengths, batch_size, seed):
    batches = length_grouped_batches(lengths, batch_size, seed, window=4)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)
    assert batches == length_grouped_batches(lengths, batch_size, seed, window=4)


def test_batches_hold_rows_of_like_length():
    lengths = [(i * 37) % 61 + 4 for i in range(3200)]
    padded = sum(max(lengths[i] for i in b) * len(b) for b in length_grouped_batches(lengths, 32, 0))
    assert padded < 1.1 * sum(lengths)


def test_epochs_differ():
    assert length_grouped_batches([5] * 64, 8, 0) != length_grouped_batches([5] * 64, 8, 1)


def test_rate_rises_then_falls():
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02


@given(st.integers(1, 1000), st.integers(1, 20))
def test_the_last_step_is_always_evaluated(steps, evaluations):
    marks = evaluation_steps(steps, evaluations)
    assert max(marks) == steps
    assert min(marks) >= 1
    assert len(marks) <= evaluations
