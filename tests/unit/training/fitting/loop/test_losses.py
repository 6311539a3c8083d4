"""Each loss has the value that is computed by hand, and trains what it should."""

import math

import pytest
import torch

from training.fitting.loop.losses import RANKING, Goals, batch_loss, lambdarank, listnet, margin_mse, ranknet
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
    smooth = (math.log(2) + 0.5 * (0.3 * softplus(-2) + 0.7 * softplus(2))) / 2
    section = TrainingSection(label_smoothing=0.2)
    assert float(batch_loss(logits, Goals(targets, weights), section)) == pytest.approx(smooth)


def test_ranknet_by_hand():
    by_hand = (softplus(-1) + softplus(-2)) / 2
    assert float(ranknet(LOGITS, TARGETS, ONES, QUERIES)) == pytest.approx(by_hand)


def test_ranknet_counts_differences_of_soft_targets_and_weights():
    logits, targets, weights = LOGITS[:3], torch.tensor([0.9, 0.4, 0.4]), torch.tensor([1.0, 0.5, 0.2])
    by_hand = (0.5 * 0.5 * softplus(-1) + 0.5 * 0.2 * softplus(-2)) / 2
    assert float(ranknet(logits, targets, weights, QUERIES[:3])) == pytest.approx(by_hand)


def test_lambdarank_by_hand():
    logits = torch.tensor([1.0, 2.0, 0.0])  # the positive is second: nDCG 1 / log2(3)
    first, last = 1 - 1 / math.log2(3), 1 / math.log2(3) - 1 / math.log2(4)
    by_hand = (first * softplus(1) + last * softplus(-1)) / 2
    assert float(lambdarank(logits, TARGETS[:3], ONES[:3], QUERIES[:3])) == pytest.approx(by_hand)


def test_listnet_by_hand():
    total = math.exp(2) + math.exp(1) + 1
    assert float(listnet(LOGITS, TARGETS, ONES, QUERIES)) == pytest.approx(math.log(total) - 2)
    soft = torch.tensor([0.75, 0.25, 0.0])
    by_hand = math.log(total) - 0.75 * 2 - 0.25 * 1
    assert float(listnet(LOGITS[:3], soft, ONES[:3], QUERIES[:3])) == pytest.approx(by_hand)
    assert float(listnet(LOGITS[:3], soft, ONES[:3] / 4, QUERIES[:3])) == pytest.approx(by_hand / 4)


def test_listnet_is_the_mean_over_queries():
    both = listnet(LOGITS.repeat(2), TARGETS.repeat(2), torch.cat([ONES, ONES / 2]), torch.cat([QUERIES, QUERIES + 3]))
    assert float(both) == pytest.approx(0.75 * float(listnet(LOGITS, TARGETS, ONES, QUERIES)))


def test_margin_mse_by_hand():
    teacher = torch.tensor([4.0, 0.0, 1.0, 9.0, 9.0, 9.0])
    by_hand = ((1 - 4) ** 2 + (2 - 3) ** 2 + (1 - -1) ** 2 + (6 - 0) ** 2) / 4
    assert float(margin_mse(LOGITS, teacher, ONES, QUERIES)) == pytest.approx(by_hand)
    assert float(margin_mse(LOGITS, teacher + 7, ONES, QUERIES)) == pytest.approx(by_hand)  # margins alone count


@pytest.mark.parametrize("name", RANKING)
def test_queries_of_one_class_add_nothing(name):
    logits = LOGITS[3:].clone().requires_grad_()
    loss = RANKING[name](logits, TARGETS[3:], ONES[3:], QUERIES[3:])
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", RANKING)
def test_each_term_raises_the_better_row_of_a_query(name):
    logits = LOGITS.clone().requires_grad_()
    RANKING[name](logits, TARGETS, ONES, QUERIES).backward()
    assert logits.grad[0] < 0 < logits.grad[1]
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[3:].tolist() == [0, 0, 0]


def test_the_recipe_adds_the_terms():
    teacher = torch.tensor([4.0, 0.0, 1.0, 9.0, 9.0, 9.0])
    plain = batch_loss(LOGITS, Goals(TARGETS, ONES), TrainingSection())
    goals = Goals(TARGETS, ONES, QUERIES, teacher)
    section = TrainingSection(ranking="ranknet", ranking_weight=0.5, teacher="t.jsonl", teacher_weight=2)
    terms = 0.5 * ranknet(LOGITS, TARGETS, ONES, QUERIES) + 2 * margin_mse(LOGITS, teacher, ONES, QUERIES)
    torch.testing.assert_close(batch_loss(LOGITS, goals, section), plain + terms)
    torch.testing.assert_close(batch_loss(LOGITS, Goals(TARGETS, ONES, QUERIES), TrainingSection()), plain)
