import pytest
import torch

from training.fitting.kept import KeptWeights


def kept(kind, values, steps=100):
    """Run through steps of these weights, an evaluation after each fifth; return the last weights and those kept."""
    weights = {"w": torch.tensor([0.0])}
    made = KeptWeights(kind, weights, steps)
    for step, value in enumerate(values, 1):
        weights["w"].fill_(value)
        made.after_step(step)
        if step % 5 == 0:
            made.after_evaluation(best=step == 10)
    made.load_final()
    return weights["w"].item()


def test_none_keeps_the_best_evaluation():
    assert kept("none", range(1, 21)) == 10


def test_last_is_the_mean_of_three_evaluations():
    assert kept("last", range(1, 31)) == pytest.approx((20 + 25 + 30) / 3)
    assert kept("last", range(1, 11)) == pytest.approx((5 + 10) / 2)


def test_ema_follows_the_weights():
    assert kept("ema", [1.0] * 100) == pytest.approx(1 - 0.8**25)
    assert kept("ema", [1.0] * 50 + [2.0] * 50) == pytest.approx(2 - 0.8**12.5 - 0.8**25, abs=0.05)


def test_evaluations_score_the_moving_average():
    weights = {"w": torch.tensor([0.0])}
    made = KeptWeights("ema", weights, 100)
    weights["w"].fill_(1.0)
    made.after_step(4)
    with made.scored():
        assert weights["w"].item() == pytest.approx(0.2)
    assert weights["w"].item() == 1.0


@pytest.mark.parametrize("kind", ["none", "last"])
def test_without_a_moving_average_evaluations_score_the_step(kind):
    weights = {"w": torch.tensor([1.0])}
    with KeptWeights(kind, weights, 100).scored():
        assert weights["w"].item() == 1.0
