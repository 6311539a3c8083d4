import gc

import numpy as np
import pytest

from tests.models import tiny_model
from training import progress
from training.embedding.candidate_vectors import BLOCK_TEXTS, Vectors
from training.embedding.vectors import CachedEncoder
from training.models.encoder_embedder import EncoderEmbedder

TEXTS = [str(number) for number in range(BLOCK_TEXTS + 100)]


class Given:
    """An encoder whose vector of a text follows from its number."""

    name = "given"

    def embed(self, texts, prefix):
        return np.array([np.random.default_rng(int(text)).normal(size=6) for text in texts], dtype=np.float32)


def expected(numbers, *, centred):
    made = Given().embed(TEXTS, "q: ")
    found = made.astype(np.float16).astype(np.float32)[numbers]
    if centred:
        found = found - made.astype(np.float64).mean(axis=0).astype(np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(
    "numbers", [np.array([5, BLOCK_TEXTS + 99, 0, 5]), np.array([], dtype=np.int64), slice(None), slice(2000, 2100)]
)
def test_vectors_come_back_in_the_order_in_which_they_are_asked_for(numbers, centred):
    taken = Vectors(Given(), TEXTS, "q: ", centred=centred).take(numbers)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, expected(numbers, centred=centred), atol=1e-5)


def test_centred_vectors_outlive_those_that_they_were_made_of():
    vectors = Vectors(Given(), TEXTS, "q: ", centred=False)
    centred = vectors.centred()
    del vectors
    gc.collect()
    np.testing.assert_allclose(centred.take(np.array([7])), expected([7], centred=True), atol=1e-5)


def test_few_texts_show_how_far_they_are_after_each_batch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    embedder = EncoderEmbedder(str(tiny_model(tmp_path / "encoder")), batch_size=8)
    Vectors(
        CachedEncoder(embedder, tmp_path / "cache"), [f"shoe {number}" for number in range(20)], "query: ", centred=True
    )
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines[:3]] == [
        "embed query: 8/20",
        "embed query: 16/20",
        "embed query: 20/20",
    ]
