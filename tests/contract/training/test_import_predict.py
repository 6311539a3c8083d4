"""An imported CrossEncoder scores as `predict` of sentence-transformers does; needs that package."""

import numpy as np
import pytest
import torch

from relevance.model.inputs import PairInputs
from relevance.tasks import Pair
from tests.models import tiny_reranker
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions
from training.models.cross_encoder import CrossEncoder, predict_logits

PAIRS = [("red  shoes", "zapatos rojos"), ("red", "home & garden > cups,\n FREE SHIPPING!"), ("青い 靴", "shoes " * 90)]


@pytest.mark.filterwarnings("ignore")  # those of the other library
@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
def test_predict_gives_the_same(tmp_path, activation):
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    original = library.CrossEncoder(
        str(tiny_reranker(tmp_path / "base", "xlm-roberta")),
        max_length=64,
        prompts={"shop": "query: "},
        activation_fn=getattr(torch.nn, activation)(),
        device="cpu",
    )
    original.default_prompt_name = "shop"
    original.save_pretrained(str(tmp_path / "model"))
    original = library.CrossEncoder(str(tmp_path / "model"), device="cpu")
    card = import_reranker(str(tmp_path / "model"), tmp_path / "checkpoint", ImportOptions())
    assert (card.max_length, card.format.query_prefix) == (64, "query: ")
    assert card.recipe["import"]["activation"] == activation.lower()
    inputs = PairInputs.from_checkpoint(tmp_path / "checkpoint", card)
    model = CrossEncoder.from_checkpoint(tmp_path / "checkpoint")
    logits = predict_logits(model, inputs.tokenizer, inputs.encode([Pair(*pair) for pair in PAIRS]))
    found = card.scores(logits) if activation == "Sigmoid" else logits
    np.testing.assert_allclose(found, original.predict([list(pair) for pair in PAIRS]), atol=1e-4)
