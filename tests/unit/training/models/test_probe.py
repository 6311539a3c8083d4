import numpy as np
import pytest

from relevance.errors import InputError
from relevance.evaluation.metrics import auc
from relevance.tasks import LabeledPair, Pair, Task
from training.data.labels.weights import label_weights
from training.data.splits import draw
from training.data.stored.rows import stored
from training.models import probe as probes
from training.models.probe import Probe


class Words:
    """Embeds a text by the letters in it: a stand-in for an encoder."""

    name = "words"

    def embed(self, texts, prefix):
        made = np.array([[text.count(letter) + 0.01 for letter in "abcdefgh"] for text in texts], dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def rows(count, seed=0, wrong=0.0):
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        query, candidate = ("".join(rng.choice(list("abcdefgh"), 4)) for _ in range(2))
        label = int(len(set(query) & set(candidate)) >= 2)
        label = 1 - label if rng.random() < wrong else label
        made.append(LabeledPair(Pair(query, candidate), label, str(n)))
    return made


def test_it_learns_what_is_alike():
    probe = Probe(Words(), Task.QI).fit(rows(400))
    test = rows(200, 2)
    assert auc([row.label for row in test], probe.logits(test)) > 0.8
    assert probe.logits([]).shape == (0,)


def test_the_same_rows_and_seed_give_the_same_logits_and_other_seeds_others():
    train, test = rows(200), rows(20, 2)
    first, again, other = (Probe(Words(), Task.QI, seed).fit(train).logits(test) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_of_more_rows_than_are_held_a_sample_is_trained_on(monkeypatch):
    train, test = rows(300), rows(50, 2)
    monkeypatch.setattr(probes, "MOST_ROWS", 200)
    found = Probe(Words(), Task.QI).fit(stored(train)).logits(test)
    assert found.tolist() == Probe(Words(), Task.QI).fit(list(draw(train, 200, 0))).logits(test).tolist()


def test_logits_do_not_depend_on_the_size_of_blocks(monkeypatch):
    train, test = rows(200), rows(70, 2)
    whole = Probe(Words(), Task.QI).fit(train).logits(test)
    monkeypatch.setattr(probes, "_BLOCK_ROWS", 16)
    assert Probe(Words(), Task.QI).fit(train).logits(stored(test)) == pytest.approx(whole, abs=1e-4)


def test_label_weights_count():
    good, bad = rows(300), rows(300, 5, wrong=1.0)
    light = [LabeledPair(r.pair, r.label, r.id, {"label_weight": 0.01}) for r in bad]
    test = rows(200, 2)
    labels = [row.label for row in test]
    weighed, plain = (auc(labels, Probe(Words(), Task.QI).fit(good + part).logits(test)) for part in (light, bad))
    assert weighed > plain + 0.1


def test_a_share_counts_as_parts_of_both_labels():
    train, test = rows(300), rows(50, 2)
    soft = [LabeledPair(r.pair, r.label, r.id, {"label_share": 0.75 if r.label else 0.25}) for r in train]
    parts = [
        LabeledPair(r.pair, label, r.id, {"label_weight": 0.75 if label == r.label else 0.25})
        for r in train
        for label in (0, 1)
    ]
    whole, by_parts, hard = (Probe(Words(), Task.QI).fit(some).logits(test) for some in (soft, parts, train))
    np.testing.assert_allclose(whole, by_parts, atol=1e-3)
    assert np.abs(whole).mean() < np.abs(hard).mean()


def test_rows_of_one_label_are_refused():
    with pytest.raises(InputError, match="training rows are not of both labels"):
        Probe(Words(), Task.QI).fit([row for row in rows(50) if row.label])


@pytest.mark.parametrize("weight", ["heavy", -0.1, 1.5, "inf"])
def test_weights_out_of_range_are_named(weight):
    row = LabeledPair(Pair("a", "b"), 1, "7", {"label_weight": weight})
    with pytest.raises(InputError, match=r"label_weight out of range .first: id '7'"):
        label_weights([row])


def test_rows_without_a_weight_weigh_one():
    extras = [{}, {"label_weight": 0.25}, {"label_weight": "0.5"}, {"label_weight": "nan"}, {"weight": "2 kg"}]
    assert label_weights([LabeledPair(Pair("a", "b"), 1, "7", e) for e in extras]) == [1.0, 0.25, 0.5, 1.0, 1.0]
