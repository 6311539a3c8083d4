import numpy as np
import pytest
import torch

from relevance.model.heads import HeadKind, HeadSpec

IDS = np.array([[0, 7, 8, 2, 2, 9, 2, 1, 1], [0, 7, 2, 2, 8, 9, 7, 9, 2]])
MASK = np.array([[1] * 7 + [0, 0], [1] * 9])


NONE = np.zeros((2, 0))
SLOPE = np.arange(6.0)
LEVELS = {"level_separator_id": 7}


def spec(kind, width=5, **more):
    return HeadSpec(kind=kind, hidden_size=6, width=width, landmarks=11, special_ids=(0, 1, 2), separator_id=2, **more)


def drawn(head, seed=0):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape)) for name, shape in head.shapes().items()}


def test_segments_leave_out_special_tokens():
    query, candidate = spec(HeadKind.PAIRED).segments(IDS, MASK)
    assert query.tolist() == [[0, 1, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0]]
    assert candidate.tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1, 0]]


def test_leaf_is_what_follows_the_last_level_separator():
    _, candidate, leaf = spec(HeadKind.PAIRED, **LEVELS).segments(IDS, MASK)
    assert candidate[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert leaf.tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 0]]  # one level: the whole candidate


@pytest.mark.parametrize("more", [{}, LEVELS, {"overlap": True}, {"prior": True}, {"overlap": True, "prior": True}])
@pytest.mark.parametrize("kind", [HeadKind.MEAN, HeadKind.PAIRED, HeadKind.KERNEL])
def test_numpy_and_torch_give_the_same_logits(kind, more):
    head = spec(kind, **more)
    features = np.random.default_rng(3).normal(size=(2, head.features))
    hidden = np.random.default_rng(1).normal(size=(2, 9, 6))
    weights = drawn(head)
    expected = head.logits(hidden, IDS, MASK, weights, features)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    found = head.logits(*map(torch.from_numpy, (hidden, IDS, MASK)), tensors, torch.from_numpy(features))
    assert expected.shape == (2,)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_kernel_logit_by_hand():
    head = spec(HeadKind.KERNEL, width=2).model_copy(update={"landmarks": 2})
    hidden = np.zeros((1, 9, 6))
    hidden[0, 1] = hidden[0, 2] = [3, 0, 0, 0, 0, 0]
    hidden[0, 5] = [0, 5, 0, 0, 0, 0]
    weights = {name: np.zeros(shape) for name, shape in head.shapes().items()}
    axes = np.eye(6)[:, :2]
    weights |= {"query.axes": axes, "candidate.axes": axes, "query.centre": np.array([1.0, 0, 9, 9, 9, 9])}
    weights |= {"query.vectors": np.array([[0.5, 0], [0, 0.5]]), "candidate.vectors": np.array([[0, 0], [0.5, -0.5]])}
    weights |= {"out.weight": np.array([10.0, 1000.0]), "skip.weight": np.array([7.0]), "out.bias": np.array(0.25)}
    # Query and first landmark: cosine 1; second: 0. Candidate and first: 1; second: -1. Query and candidate: 0.
    logit = head.logits(hidden, IDS[:1], MASK[:1], weights, NONE[:1])
    np.testing.assert_allclose(logit, [10 * 1 * 1 + 1000 * (1 / 16) * 0 + 7 * 0 + 0.25], rtol=1e-6)


def test_paired_logit_by_hand():
    head = spec(HeadKind.PAIRED, width=1, overlap=True)
    hidden = np.zeros((1, 9, 6))
    hidden[0, 1], hidden[0, 2], hidden[0, 5] = SLOPE, 3 * SLOPE, 2 * SLOPE  # q = c; normed: -1.464 ... 1.464
    weights = {name: np.zeros(shape) for name, shape in head.shapes().items()}
    weights |= {"product.weight": np.ones((6, 1)), "out.weight": np.full(1, 0.5), "norm.scale": np.ones(6)}
    weights |= {"skip.weight": np.array([10.0, 3.0, *[0.0] * 8])}
    features = np.array([[2.0, *[5.0] * 8]])
    logit = head.logits(hidden, IDS[:1], MASK[:1], weights, features)
    np.testing.assert_allclose(logit, [6 * 0.5 + 10.0 + 3 * 2.0], rtol=1e-5)  # normed squares add up to 6


def test_yes_no_is_the_softmax_of_two_tokens_at_the_last_one():
    head = spec(HeadKind.YES_NO)
    hidden = np.random.default_rng(1).normal(size=(2, 9, 6))
    weights = drawn(head)
    both = hidden[[0, 1], [6, 8]] @ weights["answers.weight"].T + weights["answers.bias"]
    yes = np.exp(both[:, 0]) / np.exp(both).sum(1)
    logits = head.logits(hidden, IDS, MASK, weights, NONE)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), yes)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    found = head.logits(*map(torch.from_numpy, (hidden, IDS, MASK)), tensors, torch.from_numpy(NONE))
    np.testing.assert_allclose(found.numpy(), logits, rtol=1e-10)


def test_yes_no_finds_the_last_token_wherever_padding_is():
    head = spec(HeadKind.YES_NO)
    hidden = np.random.default_rng(1).normal(size=(2, 9, 6))
    right = head.logits(hidden, IDS, MASK, drawn(head), NONE)
    shifted = [np.stack([np.roll(x[0], 2, axis=0), x[1]]) for x in (hidden, IDS, MASK)]
    np.testing.assert_allclose(head.logits(*shifted, drawn(head), NONE), right)


def test_padding_changes_nothing():
    head = spec(HeadKind.PAIRED)
    hidden = np.random.default_rng(2).normal(size=(2, 9, 6))
    wide = np.concatenate([hidden, np.full((2, 3, 6), 99.0)], axis=1)
    pad = np.ones((2, 3), dtype=int)
    narrow = head.logits(hidden, IDS, MASK, drawn(head), NONE)
    padded = head.logits(wide, np.concatenate([IDS, pad], 1), np.concatenate([MASK, pad * 0], 1), drawn(head), NONE)
    np.testing.assert_allclose(padded, narrow)


def test_empty_segments_have_finite_logits_and_gradients():
    head = spec(HeadKind.PAIRED)
    hidden = torch.randn(1, 4, 6, requires_grad=True)
    ids = torch.tensor([[0, 2, 2, 2]])
    weights = {name: torch.from_numpy(value).float() for name, value in drawn(head).items()}
    logit = head.logits(hidden, ids, torch.ones_like(ids), weights, torch.zeros(1, 0))
    logit.sum().backward()
    assert torch.isfinite(logit).all()
    assert torch.isfinite(hidden.grad).all()


def test_half_precision_does_not_overflow():
    head = spec(HeadKind.PAIRED)
    hidden = torch.full((2, 9, 6), 20.0, dtype=torch.float16)
    weights = {name: torch.from_numpy(value).half() * 0.01 for name, value in drawn(head).items()}
    logits = head.logits(hidden, torch.from_numpy(IDS), torch.from_numpy(MASK), weights, torch.zeros(2, 0))
    assert torch.isfinite(logits).all()


def test_sigmoid_of_a_stock_logit_is_the_softmax_share_of_its_label():
    outputs = torch.tensor([[1.0, -2.0, 0.5], [40.0, 3.0, -7.0]], dtype=torch.float64)
    for label in range(3):
        logits = spec(HeadKind.STOCK, label=label).stock_logits(outputs)
        torch.testing.assert_close(logits.sigmoid(), outputs.softmax(1)[:, label])
    assert spec(HeadKind.STOCK, label=1).stock_logits(outputs[:, :2]).tolist() == [-3.0, -37.0]
    assert spec(HeadKind.STOCK, label=2, softmax=False).stock_logits(outputs).tolist() == [0.5, -7.0]
    assert spec(HeadKind.STOCK).stock_logits(outputs[:, :1]).tolist() == [1.0, 40.0]
