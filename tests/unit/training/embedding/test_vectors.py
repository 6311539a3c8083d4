import sqlite3

import numpy as np
import pytest

from relevance.errors import InputError
from training.embedding import vectors
from training.embedding.vectors import CachedEncoder


class Counting:
    """An embedder that counts what it is asked for; a text's vector follows from its hash and prefix."""

    name, key = "counting", "1"

    def __init__(self, prefix="", asked=None):
        self.prefix, self.asked = prefix, [] if asked is None else asked

    def with_prefix(self, prefix):
        return Counting(prefix, self.asked)

    def embed(self, texts):
        if "breaks" in texts:
            raise KeyboardInterrupt
        self.asked.append(list(texts))
        made = [np.random.default_rng(abs(hash((self.prefix, text))) % 2**32).normal(size=8) for text in texts]
        return np.array(made, dtype=np.float32).reshape(len(texts), 8)


def test_texts_are_embedded_once_whatever_the_order_and_the_run(tmp_path):
    model = Counting()
    first = CachedEncoder(model, tmp_path).embed(["a", "b", "a"], "q: ")
    second = CachedEncoder(model, tmp_path).embed(["b", "c", "a"], "q: ")
    assert model.asked == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(first[[1, 0, 2]], second[[0, 2, 2]])


def test_prefixes_do_not_share_vectors(tmp_path):
    encoder = CachedEncoder(Counting(), tmp_path)
    assert (encoder.embed(["a"], "q: ") != encoder.embed(["a"], "p: ")).any()


def test_a_run_that_breaks_off_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_CHUNK_TEXTS", 2)
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Counting(), tmp_path).embed(["a", "b", "c", "d", "e", "breaks"], "q: ")
    model = Counting()
    CachedEncoder(model, tmp_path).embed(["a", "b", "c", "d", "e", "f", "g"], "q: ")
    assert model.asked == [["e", "f"], ["g"]]


def test_two_encoders_over_one_folder_keep_each_others_vectors(tmp_path):
    one, other = CachedEncoder(Counting(), tmp_path), CachedEncoder(Counting(), tmp_path)
    a, b = one.embed(["a"], "q: "), other.embed(["b"], "q: ")
    both = one.embed(["a", "b"], "q: ")
    np.testing.assert_array_equal(both, np.concatenate([a, b]))


def test_no_texts_give_no_vectors(tmp_path):
    assert CachedEncoder(Counting(), tmp_path).embed([], "q: ").shape == (0, 8)


def test_a_damaged_folder_is_named(tmp_path):
    encoder = CachedEncoder(Counting(), tmp_path)
    encoder.embed(["a"], "q: ")
    (tmp_path / "embeddings.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=r"embeddings .*remove this one"):
        encoder.embed(["a"], "q: ")


def test_vectors_of_other_lengths_are_named(tmp_path):
    encoder = CachedEncoder(Counting(), tmp_path)
    encoder.embed(["a"], "q: ")
    with sqlite3.connect(tmp_path / "embeddings.sqlite") as connection:
        connection.execute("UPDATE entries SET value = ?", (b"\0" * 7,))
    connection.close()
    with pytest.raises(InputError, match=r"embeddings .*damaged"):
        encoder.embed(["a"], "q: ")
