"""Sentence embeddings by an encoder: length one, independent of batch and order."""

import numpy as np
import pytest

from relevance.errors import ConfigError
from tests.models import tiny_model
from training.models.encoder_embedder import EncoderEmbedder

TEXTS = ["red shoes", "zapatos rojos", "حذاء أحمر", "cups", "red shoes", "a much longer query about red shoes and cups"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "bert")


def test_vectors_have_length_one_and_equal_texts_equal_vectors(folder):
    vectors = EncoderEmbedder(str(folder)).embed(TEXTS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert (vectors[0] == vectors[4]).all()
    assert not np.allclose(vectors[0], vectors[1])


def test_padding_and_order_make_no_difference(folder):
    together = EncoderEmbedder(str(folder), batch_size=6).embed(TEXTS)
    alone = EncoderEmbedder(str(folder), batch_size=1).embed(TEXTS[::-1])[::-1]
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_prefix_counts(folder):
    first, second = (EncoderEmbedder(str(folder), prefix=prefix).embed(["cups"]) for prefix in ("query: ", ""))
    assert not np.allclose(first, second)


def test_no_texts_give_no_vectors_and_an_unknown_encoder_is_named(folder):
    assert EncoderEmbedder(str(folder)).embed([]).shape == (0, 32)
    with pytest.raises(ConfigError, match="no such folder"):
        EncoderEmbedder("no such/model folder")
