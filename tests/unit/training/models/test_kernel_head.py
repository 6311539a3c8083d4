"""A kernel head: its weights are those of kernel ridge regression, and it learns what a linear head cannot."""

import numpy as np
import pytest

from relevance.evaluation.metrics import auc
from relevance.model.heads import HeadKind, HeadSpec
from training.models.kernel_head import RIDGE, SCALAR_WEIGHT, TANGENT, solved

HIDDEN, ROWS = 12, 300


def spec(rows: int = ROWS, **changes) -> HeadSpec:
    return HeadSpec(kind=HeadKind.KERNEL, hidden_size=HIDDEN, width=HIDDEN, landmarks=rows, special_ids=(0,), **changes)


def pairs(seed: int, rows: int = ROWS):
    """Return the means of both segments, and labels: 1 where query and candidate are of different kinds."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, 2, (rows, 2))
    centres = np.random.default_rng(9).normal(size=(2, 2, HIDDEN))
    means = [centres[i][kinds[:, i]] + draw.normal(scale=0.4, size=(rows, HIDDEN)) for i in range(2)]
    return [m.astype(np.float32) for m in means], (kinds[:, 0] != kinds[:, 1]).astype(np.float64)


def logits(head: HeadSpec, weights, means, scalars):
    likeness = head.likeness(head.units(means, weights), weights)
    return likeness @ weights["out.weight"] + scalars @ weights["skip.weight"] + weights["out.bias"]


def scalars_of(means):
    return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b)] for a, b in zip(*means, strict=True)], np.float32)


def test_the_weights_solve_the_regression():
    means, labels = pairs(0)
    scalars, share = scalars_of(means), np.random.default_rng(1).uniform(0.2, 1, ROWS)
    found = solved(spec(), means, scalars, labels, share)
    assert {name: value.shape for name, value in found.items()} == spec().shapes()
    units = spec().units(means, found)
    scaled = (scalars - scalars.mean(0)) / (scalars.std(0) + 1e-3)
    kernel = spec().likeness(units, found) + SCALAR_WEIGHT * scaled @ scaled.T
    rate = np.average(labels, weights=share)
    expected = np.linalg.solve(kernel + np.diag(RIDGE / share), labels - rate) * TANGENT
    assert found["out.weight"] == pytest.approx(expected, abs=2e-3)
    wanted = TANGENT * (rate - 0.5) + kernel @ expected
    assert logits(spec(), found, means, scalars) == pytest.approx(wanted, abs=2e-2)


def test_what_depends_on_both_texts_together_is_learnt():
    means, labels = pairs(0)
    found = solved(spec(), means, scalars_of(means), labels, np.ones(ROWS))
    new, answers = pairs(1)
    assert auc(answers, logits(spec(), found, new, scalars_of(new))) > 0.97


def test_fewer_rows_than_landmarks_leave_the_rest_without_effect():
    means, labels = pairs(0)
    exact = solved(spec(), means, scalars_of(means), labels, np.ones(ROWS))
    padded = solved(spec(ROWS + 50), means, scalars_of(means), labels, np.ones(ROWS))
    assert padded["out.weight"].shape == (ROWS + 50,)
    new = pairs(1)[0]
    both = [logits(s, w, new, scalars_of(new)) for s, w in ((spec(), exact), (spec(ROWS + 50), padded))]
    assert both[0] == pytest.approx(both[1], abs=1e-4)


def test_more_components_than_hidden_numbers_are_zeros():
    means, labels = pairs(0)
    wide = spec().model_copy(update={"width": HIDDEN + 4})
    found = solved(wide, means, scalars_of(means), labels, np.ones(ROWS))
    assert not found["query.axes"][:, HIDDEN:].any()


def test_a_leaf_is_compared_beside_its_path():
    means, labels = pairs(0)
    paths = spec(level_separator_id=5)
    found = solved(paths, [*means, means[1]], np.zeros((ROWS, 2), np.float32), labels, np.ones(ROWS))
    assert {name: value.shape for name, value in found.items()} == paths.shapes()
    twice = paths.likeness(paths.units([*means, means[1]], found), found)
    assert twice == pytest.approx(2 * spec().likeness(spec().units(means, found), found), abs=1e-6)
