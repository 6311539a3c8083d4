import numpy as np
import pytest

from relevance.errors import DivergedError
from training.fitting.loop.guard import Guard, chance_error

LABELS = [0, 1] * 500
LOGITS = np.linspace(-1, 1, 1000, dtype=np.float32)
ERROR = chance_error(LABELS)


def test_a_sound_run_passes():
    guard = Guard()
    for step in range(100):
        guard.after_step(step, 0.6, 1e-8 if step % 2 else 1.0)
    guard.after_evaluation(10, LOGITS, [0.6, 0.7, 0.68], ERROR)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(DivergedError, match=r"training loss \w+ at step 7.*lower training\.learning_rate"):
        Guard().after_step(7, loss, 1.0)


def test_gradients_that_vanish():
    guard = Guard()
    for step in range(19):
        guard.after_step(step, 0.6, 1e-9)
    with pytest.raises(DivergedError, match="step 19: the gradient's norm is 1e-09, for 20 steps in a row"):
        guard.after_step(19, 0.6, 1e-9)


def test_scores_that_are_all_alike():
    with pytest.raises(DivergedError, match="step 5: all dev rows have nearly the same score"):
        Guard().after_evaluation(5, LOGITS * 1e-5, [0.6], ERROR)


def test_scores_that_shrink_together():
    guard = Guard()
    guard.after_evaluation(5, LOGITS, [0.6], ERROR)
    guard.after_evaluation(9, LOGITS * 0.02, [0.6, 0.6], ERROR)
    with pytest.raises(DivergedError, match="step 12: all dev rows have nearly the same score"):
        guard.after_evaluation(12, LOGITS * 5e-3, [0.6, 0.6, 0.6], ERROR)


def test_logits_that_are_no_numbers():
    with pytest.raises(DivergedError, match="not finite"):
        Guard().after_evaluation(5, np.array([0.0, np.nan], dtype=np.float32), [0.6], ERROR)


def test_an_auc_that_falls_to_chance():
    with pytest.raises(DivergedError, match=r"dev AUC 0\.510 is that of chance, and was 0\.700 before"):
        Guard().after_evaluation(5, LOGITS, [0.6, 0.7, 0.51], ERROR)
    Guard().after_evaluation(5, LOGITS, [0.55, 0.51], ERROR)  # never clearly above chance: rows that teach nothing
    Guard().after_evaluation(5, LOGITS, [float("nan")], chance_error([1, 1]))


def test_the_error_of_chance_is_that_of_random_scores():
    rng = np.random.default_rng(0)
    ranks = [rng.permutation(40)[:10].sum() for _ in range(4000)]
    assert chance_error([1] * 10 + [0] * 30) == pytest.approx(np.std(ranks) / 300, rel=0.05)
