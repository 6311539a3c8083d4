import numpy as np
import pytest

from relevance.model.inputs import PairInputs
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from tests.models import tiny_model
from training.models.cross_encoder import CrossEncoder, load_tokenizer
from training.models.head_start import start_head
from training.models.options import HeadOptions

PAIRS = [Pair(f"red {word}", f"home,{word}") for word in ("cups", "pans", "lamps", "shoes")]


@pytest.mark.parametrize("kind", ["mean", "paired"])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_head_starts_from_a_sample_of_one_label(tmp_path, kind, target):
    base = tiny_model(tmp_path / "base")
    tokenizer = load_tokenizer(base, 32)
    model = CrossEncoder.from_base(base, tokenizer, HeadOptions(kind=kind, overlap=True))
    pairs = PairInputs(Task.QC, PairFormat(), tokenizer, overlap=True).encode(PAIRS)
    start_head(model, tokenizer, pairs, [target] * len(pairs))
    assert all(np.isfinite(parameter.detach().numpy()).all() for parameter in model.head.values())


def test_a_head_without_features_starts_at_the_positive_rate(tmp_path):
    base = tiny_model(tmp_path / "base")
    tokenizer = load_tokenizer(base, 32)
    model = CrossEncoder.from_base(base, tokenizer, HeadOptions(kind="mean"))
    start_head(model, tokenizer, tokenizer.encode_pairs([("a", "b")] * 4), [1.0] * 4)
    assert float(model.head["out_bias"].detach()) == pytest.approx(np.log(5))  # (4 + 1) / (4 + 2)
