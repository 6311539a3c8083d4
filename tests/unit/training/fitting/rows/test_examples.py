"""What training reads from disk is what the tokeniser gives; a checkpoint does not depend on where its rows are."""

from dataclasses import replace

import numpy as np
import pytest

from relevance.model.inputs import PairInputs
from relevance.tasks import Task
from relevance.text.formatting import PairFormat
from tests.models import tiny_model
from tests.unit.training.fitting.loop.test_finetune import ranked_rows, recipe, rows
from training.data.labels.weights import label_shares, label_weights
from training.fitting.checkpoint import Job, train
from training.fitting.rows.examples import Examples, store_examples, token_ids
from training.fitting.rows.prior import fit_prior
from training.fitting.rows.row_facts import RowFacts
from training.fitting.rows.truncation import encode_rows
from training.models.cross_encoder import load_tokenizer
from training.pipeline.tables import open_rows, write_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def weighed(made):
    """Return rows with the extras that training reads, some of which are missing."""
    extras = ({}, {"label_weight": 0.25}, {"label_share": "0.7", "note": "label_weight"}, {"source": "negative"})
    return [replace(row, extra=extras[n % 4] | {"source_id": str(n // 5)}) for n, row in enumerate(made)]


@pytest.mark.parametrize(("overlap", "max_length"), [(False, 64), (True, 64), (True, 11)])
def test_stored_pairs_are_those_that_the_tokenizer_gives(base, tmp_path, monkeypatch, overlap, max_length):
    monkeypatch.setattr("training.data.stored.batches.BATCH_ROWS", 16)
    inputs = PairInputs(Task.QC, PairFormat(), load_tokenizer(base, max_length), overlap)
    some = weighed(rows(70))
    found = store_examples(tmp_path / "train", some, encode_rows(inputs, some, "train"))
    wanted = [replace(pair, truncated=False) for pair in inputs.encode([row.pair for row in some])]
    assert [as_float32(pair) for pair in wanted] == found.pairs[:]
    assert found.pairs[-1] == found.pairs[69]
    assert found.pairs.lengths.tolist() == [len(pair) for pair in wanted]
    assert token_ids(found) == sorted({i for pair in wanted for i in pair.input_ids})
    assert (found.targets.tolist(), found.weights.tolist()) == (label_shares(some), label_weights(some))
    assert found.labels.tolist() == [row.label for row in some]
    assert len(found.queries) == len(found.teacher) == 0


def as_float32(pair):
    return replace(pair, features=tuple(np.array(pair.features, dtype=np.float32).tolist()))


def test_features_of_the_prior_are_those_out_of_fold(base, tmp_path):
    some = weighed(rows(70))
    prior = fit_prior(some, PairFormat(), 0)
    inputs = PairInputs(Task.QC, PairFormat(), load_tokenizer(base, 64), True, prior.table)
    blocks = encode_rows(inputs, some, "train")
    found = store_examples(tmp_path / "train", some, blocks, priors=prior.features)
    wanted = inputs.encode([row.pair for row in some], [tuple(each) for each in prior.features.tolist()])
    assert [pair.features for pair in found.pairs] == [as_float32(pair).features for pair in wanted]
    assert wanted != inputs.encode([row.pair for row in some])


def test_another_process_finds_the_same_numbers(base, tmp_path):
    some = weighed(rows(20))
    inputs = PairInputs(Task.QC, PairFormat(), load_tokenizer(base, 64))
    facts = RowFacts(np.arange(20, dtype=np.int32), np.full(20, 0.5), np.linspace(-1, 1, 20))
    first = store_examples(tmp_path / "train", some, encode_rows(inputs, some, "train"), facts)
    again = Examples.open(tmp_path / "train")
    assert first.weights.tolist() == again.weights.tolist() == [0.5 * weight for weight in label_weights(some)]
    assert (again.queries.tolist(), again.teacher.tolist()) == (facts.queries.tolist(), facts.teacher.tolist())
    assert again.pairs[:] == first.pairs[:]


def test_rows_in_files_give_the_bytes_of_rows_in_memory(base, tmp_path, monkeypatch):
    monkeypatch.setattr("training.pipeline.tables._ROW_GROUP", 32)
    some, dev = weighed(ranked_rows(25)), ranked_rows(10, 100)
    write_rows(tmp_path / "train.parquet", some, Task.QC)
    stored = open_rows(tmp_path / "train.parquet", Task.QC)
    assert len(stored.sizes) == 4
    settings = recipe(base, copies_as_one=True, lambdarank_weight=0.5)
    for name, given in (("memory", some), ("files", stored)):
        train(Job(settings, given, dev, tmp_path / name))
    names = sorted(path.name for path in (tmp_path / "memory").iterdir())
    assert {"model.safetensors", "head.safetensors", "prior.json", "run.json", "dev_logits.npy"} <= {*names}
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("memory", "files"))
        assert first == second or name == "card.json", name  # a card has the time of its making
