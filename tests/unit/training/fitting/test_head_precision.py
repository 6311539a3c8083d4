"""A kernel head reads its rows in the run's precision; what starts from few rows reads them in fp32."""

import numpy as np
import pytest

from relevance.tasks import LabeledPair, Pair
from tests.models import tiny_model
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.recipe import Recipe

ROWS = [
    LabeledPair(Pair(f"{'red' if i % 3 else 'blue'} shoes {i}", f"goods,{'shoes' if i % 2 else 'cups'}"), i % 2, str(i))
    for i in range(60)
]


@pytest.fixture
def logits(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")

    def found(kind, precision):
        training = {"epochs": 0, "precision": precision}
        parts = {"name": "x", "task": "qc", "base_model": str(base), "head": {"kind": kind}, "training": training}
        out = tmp_path / f"{kind}-{precision}"
        train(Job(Recipe.model_validate(parts), ROWS, ROWS[:20], out))
        return dev_logits(out)

    return found


def test_a_kernel_head_in_bf16_is_near_that_in_fp32(logits):
    exact, fast = logits("kernel", "fp32"), logits("kernel", "bf16")
    assert not np.array_equal(exact, fast)
    assert fast == pytest.approx(exact, abs=0.1)
    assert np.corrcoef(exact, fast)[0, 1] > 0.99


def test_the_start_of_a_paired_head_is_the_same_in_bf16(logits):
    assert np.array_equal(logits("paired", "fp32"), logits("paired", "bf16"))
