"""Alignment with tiny random encoders, whose translations are words of two made-up languages."""

import json

import numpy as np
import pytest
import torch
from transformers import T5Config, T5Model

from relevance.errors import ConfigError, DivergedError, InputError, MachineError
from relevance.storage.locks import output_lock
from relevance.tasks import LabeledPair, Pair
from tests.models import tiny_model
from training.alignment import tuner
from training.alignment.options import AlignmentOptions
from training.alignment.pairs import batches, parts
from training.alignment.stage import align
from training.fitting.loop import snapshots
from training.models.base.base_models import load_base_encoder, resolve_base_model
from training.models.encoder_embedder import EncoderEmbedder
from training.translation.backends.memory_files import Unit

COLOURS = {"red": "rojo", "blue": "azul", "green": "verde", "black": "negro", "white": "blanco", "grey": "gris"}
THINGS = {"shoe": "zapato", "cup": "taza", "lamp": "foco", "ball": "pelota", "table": "mesa", "door": "puerta"}
UNITS = [
    Unit({"en": f"{colour} {thing}", "es": f"{COLOURS[colour]} {THINGS[thing]}"}, "en")
    for colour in COLOURS
    for thing in THINGS
]
OPTIONS = AlignmentOptions(epochs=60, batch_size=8, learning_rate=2e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return resolve_base_model(str(tiny_model(tmp_path_factory.mktemp("base") / "encoder")))


def weights(folder):
    return load_base_encoder(resolve_base_model(str(folder)))[0].state_dict()


def test_translations_that_were_not_trained_on_come_near_their_sources(base, tmp_path):
    report = align(base, UNITS * 3, OPTIONS.model_copy(update={"epochs": 300}), tmp_path / "out")
    assert report.measured == 2
    assert (report.pairs, report.held_out, report.sources) == ({"es": 34}, 0, 2)
    vectors = EncoderEmbedder(str(tmp_path / "out"), prefix="").embed([*UNITS[0].texts.values(), UNITS[8].texts["es"]])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    note = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert note["base"]["name"].endswith(" (aligned)")
    assert note["aligned"]["report"]["pairs"] == {"es": 34}
    assert not (tmp_path / ".out.work").exists()


def test_word_embeddings_stay_and_layers_are_cut(base, tmp_path):
    align(base, UNITS, AlignmentOptions(layers=1, batch_size=8, learning_rate=1e-3), tmp_path / "out")
    found, before = weights(tmp_path / "out"), weights(base.path)
    assert not any(".layer.1." in name for name in found)
    for name in found:
        if "pooler" not in name:
            assert torch.equal(found[name], before[name]) == ("word_embeddings" in name), name


@pytest.mark.parametrize("family", ["xlm-roberta", "distilbert", "electra", "qwen3"])
def test_any_architecture_is_aligned(tmp_path, family):
    model = resolve_base_model(str(tiny_model(tmp_path / "encoder", family)))
    align(model, UNITS, AlignmentOptions(batch_size=8), tmp_path / "out")
    assert resolve_base_model(str(tmp_path / "out")).revision != model.revision


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path):
    folder, padded = (tiny_model(tmp_path / name, "llama") for name in ("bare", "padded"))
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        content = {key: value for key, value in json.loads((folder / file).read_text()).items() if key != "pad_token"}
        (folder / file).write_text(json.dumps(content))
    options = AlignmentOptions(batch_size=8, max_length=6)
    for model in (folder, padded):
        align(resolve_base_model(str(model)), UNITS, options, tmp_path / f"{model.name} aligned")
    found, expected = (weights(tmp_path / f"{name} aligned") for name in ("bare", "padded"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    texts = ["red shoe", "a much longer text of a blue lamp"]
    vectors = [EncoderEmbedder(str(tmp_path / f"{name} aligned")).embed(texts) for name in ("bare", "padded")]
    np.testing.assert_array_equal(*vectors)


def test_without_bf16_a_gpu_trains_in_fp32(base, tmp_path, monkeypatch):
    options = AlignmentOptions(batch_size=8)
    for precision in ("fp32", "fp16", "bf16"):
        monkeypatch.setattr(tuner, "resolve_precision", lambda *_, precision=precision: precision)
        align(base, UNITS, options, tmp_path / precision)
    fp32, fp16, bf16 = (weights(tmp_path / precision) for precision in ("fp32", "fp16", "bf16"))
    assert all(torch.equal(fp32[name], fp16[name]) for name in fp32)
    assert not all(torch.equal(fp32[name], bf16[name]) for name in fp32)


class StoppedError(Exception):
    pass


STEPS = 4 * (34 // 8)


@pytest.mark.parametrize("done", [7, STEPS])
def test_an_interrupted_run_goes_on_to_the_same_weights(base, tmp_path, monkeypatch, done):
    options = OPTIONS.model_copy(update={"epochs": 4})
    align(base, UNITS, options, tmp_path / "whole")
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", -1.0)
    monkeypatch.setattr(snapshots, "snapshot_wait", lambda *_: -1.0)
    steps = []

    def step(self, pairs):
        if len(steps) == done:
            raise StoppedError
        steps.append(pairs)
        return loss(self, pairs)

    def stop(*_):
        raise StoppedError

    loss = tuner.Aligner._loss
    with monkeypatch.context() as dying:
        dying.setattr(tuner.Aligner, "_loss", step)
        dying.setattr(tuner.Aligner, "found_first", stop)  # between training and the writing of the result
        with pytest.raises(StoppedError):
            align(base, UNITS, options, tmp_path / "out")
    assert len(steps) == done
    assert not (tmp_path / "out").exists()
    steps.clear()
    monkeypatch.setattr(tuner.Aligner, "_loss", lambda self, pairs: (steps.append(pairs), loss(self, pairs))[1])
    align(base, UNITS, options, tmp_path / "out")
    assert len(steps) == STEPS - done
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole if "pooler" not in name)


def test_units_give_pairs_from_their_original_or_the_source_language():
    units = [
        Unit({"ja": "靴", "en": "shoe", "de": "schuh"}, "ja"),
        Unit({"en": "cup", "de": "tasse"}),
        Unit({"fr": "tasse", "de": "tasse"}),
        Unit({"en": "cup", "de": "tasse"}),
        Unit({"en": "lamp", "de": "lampe"}),
        Unit({"en": "ball", "de": "ball"}),
    ]
    found = parts(units, AlignmentOptions(batch_size=2), set())
    every = {(each.source, each.text) for each in [*found.train, *found.measured]}
    assert every == {("靴", "shoe"), ("靴", "schuh"), ("cup", "tasse"), ("lamp", "lampe"), ("ball", "ball")}
    assert {each.source for each in found.train}.isdisjoint(each.source for each in found.measured)


def test_a_source_in_another_case_is_measured_with_it():
    shouted = [Unit({"en": unit.texts["en"].upper(), "es": unit.texts["es"].upper()}, "en") for unit in UNITS]
    found = parts([*UNITS, *shouted], AlignmentOptions(batch_size=8), set())
    train, measured = ({each.source.lower() for each in some} for some in (found.train, found.measured))
    assert train.isdisjoint(measured)
    assert len(found.train) + len(found.measured) == 72


def test_held_out_queries_are_in_no_pair_on_either_side(base, tmp_path):
    held = [LabeledPair(Pair(text, "x", "en"), 1, text) for text in ("RED shoe", "taza", "azul taza")]
    report = align(base, UNITS, AlignmentOptions(batch_size=8), tmp_path / "out", held)
    assert report.held_out == 2
    assert sum(report.pairs.values()) + report.measured == 34


def test_a_batch_has_texts_of_like_length_and_an_epoch_each_pair_once():
    found = parts(UNITS, AlignmentOptions(batch_size=8), set())
    steps = batches(found.train, AlignmentOptions(batch_size=8, epochs=2))
    assert [len(step) for step in steps] == [8] * 8
    for epoch in (steps[:4], steps[4:]):
        assert len({place for step in epoch for place in step}) == 32
    assert steps[:4] != steps[4:]
    lengths = np.array([len(each.source) + len(each.text) for each in found.train])
    assert np.mean([np.ptp(lengths[step]) for step in steps]) < np.ptp(lengths)


def test_more_pairs_than_asked_are_sampled():
    found = parts(UNITS, AlignmentOptions(batch_size=8, most_pairs=20), set())
    assert len(found.train) + len(found.measured) == 20
    assert (found.held_out, found.not_drawn) == (0, 16)
    found = parts(UNITS, AlignmentOptions(batch_size=8, most_pairs=20), {"red shoe"})
    assert (found.held_out, found.not_drawn) == (1, 15)


def test_wrong_input_is_named_and_nothing_is_written(base, tmp_path):
    options = AlignmentOptions(batch_size=8)
    with pytest.raises(InputError, match=r"3 pairs .* expected at least batch_size = 8"):
        align(base, UNITS[:4], options, tmp_path / "out")
    either_way, french = [Unit(unit.texts) for unit in UNITS], options.model_copy(update={"source_language": "fr"})
    with pytest.raises(InputError, match=r"0 pairs .* text in 'fr'"):
        align(base, either_way, french, tmp_path / "out")
    with pytest.raises(ConfigError, match="layers 9"):
        align(base, UNITS, options.model_copy(update={"layers": 9}), tmp_path / "out")
    with pytest.raises(ConfigError, match="max_length 131: the model has 130 positions"):
        align(base, UNITS, options.model_copy(update={"max_length": 131}), tmp_path / "out")
    with pytest.raises(DivergedError, match=r"lower learning_rate .* or raise warmup_share"):
        align(base, UNITS, options.model_copy(update={"temperature": 1e-39}), tmp_path / "out")
    with output_lock(tmp_path / "out"), pytest.raises(MachineError, match="in use by process"):
        align(base, UNITS, options, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        align(base, UNITS, options, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_encoder_decoder_is_refused_before_training(tmp_path):
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="architecture 't5' cannot be served, it is an encoder-decoder"):
        align(resolve_base_model(str(tmp_path / "t5")), UNITS, AlignmentOptions(batch_size=8), tmp_path / "out")
