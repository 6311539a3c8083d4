"""Each loss has the value that is computed by hand, and trains what it should."""

import math

import pytest
import torch

from training.fitting.loop.losses import Goals, batch_loss, lambdarank, margin_mse
from training.fitting.recipe import TrainingSection

LOGITS = torch.tensor([2.0, 1.0, 0.0, 5.0, -1.0, 0.5])
TARGETS = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
ONES = torch.ones(6)
QUERIES = torch.tensor([0, 0, 0, 1, 1, 2])  # the second has one class, the third one row


def softplus(x):
    return math.log1p(math.exp(x))


def test_cross_entropy_on_soft_targets():
    logits, targets, weights = torch.tensor([0.0, 2.0]), torch.tensor([0.7, 0.25]), torch.tensor([1.0, 0.5])
    by_hand = (math.log(2) + 0.5 * (0.25 * softplus(-2) + 0.75 * softplus(2))) / 2
    assert float(batch_loss(logits, Goals(targets, weights), TrainingSection())) == pytest.approx(by_hand)


def test_lambdarank_by_hand():
    logits = torch.tensor([1.0, 2.0, 0.0])  # the positive is second: nDCG 1 / log2(3)
    first, last = 1 - 1 / math.log2(3), 1 / math.log2(3) - 1 / math.log2(4)
    by_hand = (first * softplus(1) + last * softplus(-1)) / 2
    assert float(lambdarank(logits, TARGETS[:3], ONES[:3], QUERIES[:3])) == pytest.approx(by_hand)
    weights = torch.tensor([1.0, 0.5, 0.2])
    weighted = (0.5 * first * softplus(1) + 0.2 * last * softplus(-1)) / 2
    assert float(lambdarank(logits, TARGETS[:3], weights, QUERIES[:3])) == pytest.approx(weighted)


def test_margin_mse_by_hand():
    teacher = torch.tensor([4.0, 0.0, 1.0, 9.0, 9.0, 9.0])
    by_hand = ((1 - 4) ** 2 + (2 - 3) ** 2 + (1 - -1) ** 2 + (6 - 0) ** 2) / 4
    assert float(margin_mse(LOGITS, teacher, ONES, QUERIES)) == pytest.approx(by_hand)
    assert float(margin_mse(LOGITS, teacher + 7, ONES, QUERIES)) == pytest.approx(by_hand)  # margins alone count


def test_queries_of_one_class_add_nothing():
    logits = LOGITS[3:].clone().requires_grad_()
    loss = lambdarank(logits, TARGETS[3:], ONES[3:], QUERIES[3:])
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad.tolist() == [0, 0, 0]


def test_lambdarank_raises_the_better_row_of_a_query():
    logits = LOGITS.clone().requires_grad_()
    lambdarank(logits, TARGETS, ONES, QUERIES).backward()
    assert logits.grad[0] < 0 < logits.grad[1]
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[3:].tolist() == [0, 0, 0]


def test_the_recipe_adds_the_terms():
    teacher = torch.tensor([4.0, 0.0, 1.0, 9.0, 9.0, 9.0])
    plain = batch_loss(LOGITS, Goals(TARGETS, ONES), TrainingSection())
    goals = Goals(TARGETS, ONES, QUERIES, teacher)
    section = TrainingSection(lambdarank_weight=0.5, teacher="t.jsonl", teacher_weight=2)
    terms = 0.5 * lambdarank(LOGITS, TARGETS, ONES, QUERIES) + 2 * margin_mse(LOGITS, teacher, ONES, QUERIES)
    torch.testing.assert_close(batch_loss(LOGITS, goals, section), plain + terms)
    torch.testing.assert_close(batch_loss(LOGITS, Goals(TARGETS, ONES, QUERIES), TrainingSection()), plain)
