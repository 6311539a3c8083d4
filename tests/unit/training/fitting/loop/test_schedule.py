from hypothesis import given
from hypothesis import strategies as st

from training.fitting.loop.schedule import evaluation_steps, rate_factor


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
