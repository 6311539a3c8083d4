"""Bytes of a step, counted on fake tensors: what it makes, and not the weights that it reads."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from training.models.memory import peak_bytes, size_of

ROWS, WIDTHS = 3, (1000, 2000, 1000)


@pytest.fixture
def layers():
    with FakeTensorMode():
        yield nn.Sequential(*(nn.Linear(*widths) for widths in pairwise(WIDTHS)))


def test_scoring_counts_activations_and_no_weights_of_which_it_makes_views(layers):
    rows = torch.zeros(ROWS, WIDTHS[0])
    with torch.no_grad():
        found = peak_bytes(lambda: layers(rows), layers)
    assert found == 4 * ROWS * (WIDTHS[1] + WIDTHS[2])  # both outputs; the rows were made before


def test_a_step_counts_its_gradients_once(layers):
    rows = torch.zeros(ROWS, WIDTHS[0])
    found = peak_bytes(lambda: layers(rows).sum().backward(), layers)
    assert size_of(layers) < found < size_of(layers) + 4 * ROWS * sum(WIDTHS)


def test_copies_of_weights_in_16_bits_count(layers):
    def score():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layers(torch.zeros(ROWS, WIDTHS[0]))

    assert peak_bytes(score, layers) > size_of(layers) / 2
