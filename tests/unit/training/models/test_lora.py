"""Adapters on tiny random models: what they train, what merging changes, and what they can be put on again."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from relevance.errors import CheckpointError, ConfigError, InputError
from relevance.text.prompt import Prompt
from tests.models import shoe_rows, tiny_language_model, tiny_model, tiny_reranker
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.evaluation.report import score_logits
from training.fitting.recipe import Recipe
from training.models.base.base_models import resolve_base_model
from training.models.base.prepared import EncoderOptions, prepare_encoder
from training.models.cross_encoder import CrossEncoder, load_tokenizer
from training.models.lora import Adapter
from training.models.options import HeadOptions, LoraOptions

TRAINING = {"epochs": 2, "batch_size": 12, "evaluations": 1, "max_length": 112, "learning_rate": 5e-3}


def recipe(base, kind="yes_no", **more):
    lora = {"rank": 4} | more.pop("lora", {})
    parts = {"name": "adapted", "task": "qc", "base_model": str(base), "head": {"kind": kind}, "training": TRAINING}
    return Recipe.model_validate(parts | {"lora": lora} | more)


def run(base, out, **more):
    train(Job(recipe(base, **more), shoe_rows(), shoe_rows(24), out))
    return out


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return tiny_language_model(tmp_path_factory.mktemp("base"), "qwen3", tied=True)


@pytest.fixture(scope="module")
def trained(language_model, tmp_path_factory):
    return run(language_model, tmp_path_factory.mktemp("adapted") / "out")


@pytest.mark.parametrize(("family", "kind"), [("bert", "paired"), ("bert", "stock"), ("modernbert", "mean")])
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_encoders_are_adapted_and_merged(tmp_path, family, kind):
    base = (tiny_reranker if kind == "stock" else tiny_model)(tmp_path / "base", family)
    out = run(base, tmp_path / "out", kind=kind, training=TRAINING | {"learning_rate": 1e-3})
    np.testing.assert_allclose(score_logits(out, shoe_rows(24))[1], dev_logits(out), atol=1e-5)
    merged = load_file(out / "model.safetensors")
    assert not any("lora" in name for name in merged)
    names = list(load_file(out / "adapter" / "adapter_model.safetensors"))
    assert not any("pooler" in name or "classifier" in name for name in names)


def test_every_linear_layer_is_adapted_and_nothing_else_is_trained(language_model, tmp_path):
    prompt = Prompt(text="{query} {candidate} Answer:")
    prepare_encoder(resolve_base_model(str(language_model)), tmp_path / "prepared", EncoderOptions(prompt=prompt))
    tokenizer = load_tokenizer(tmp_path / "prepared", 64, prompt)
    model = CrossEncoder.from_base(tmp_path / "prepared", tokenizer, HeadOptions(kind="yes_no"))
    linear = {name for name, module in model.encoder.named_modules() if isinstance(module, torch.nn.Linear)}
    Adapter(model, LoraOptions(rank=3), tmp_path / "prepared")
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    expected = {f"encoder.{name}.lora_{part}.default.weight" for name in linear for part in "AB"}
    assert len(linear) == 2 * 7  # q, k, v, o, gate, up, down of each layer
    assert learning == expected


def test_an_encoder_without_linear_layers_is_refused(tmp_path):
    base = tiny_model(tmp_path / "base", "gpt2")
    form = {"format": {"candidate_prefix": " category: "}}
    with pytest.raises(ConfigError, match=r"lora\.rank: architecture 'gpt2' has no torch\.nn\.Linear to adapt"):
        run(base, tmp_path / "out", kind="mean", **form)
    assert not (tmp_path / "out").exists()


def test_the_merged_model_scores_as_the_trained_one(trained):
    np.testing.assert_allclose(score_logits(trained, shoe_rows(24))[1], dev_logits(trained), atol=1e-5)


def test_base_model_and_adapter_in_peft_are_the_checkpoint(language_model, trained):
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(language_model), trained / "adapter").eval()
    plain = AutoModelForCausalLM.from_pretrained(language_model).eval()
    merged = CrossEncoder.from_checkpoint(trained)
    ids = torch.tensor([[5, 9, 12, 40]])
    with torch.inference_mode():
        hidden = whole.get_base_model().model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(merged.encoder(input_ids=ids).last_hidden_state, hidden, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(plain.model(input_ids=ids).last_hidden_state, hidden, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # of the images' tower: zeros, which change nothing
@pytest.mark.parametrize("family", ["gemma3", "gemma3_text"])
def test_adapters_name_the_layers_as_the_language_model_does(family, tmp_path):
    base = tiny_language_model(tmp_path / "base", family)
    out = run(base, tmp_path / "out", training=TRAINING | {"epochs": 1})
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    whole = PeftModel.from_pretrained(plain, out / "adapter").eval()
    ids = torch.tensor([[5, 9, 12, 40]])
    with torch.inference_mode():
        hidden = whole.get_base_model().get_decoder()(input_ids=ids).last_hidden_state
        found = CrossEncoder.from_checkpoint(out).encoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, hidden, atol=1e-4, rtol=1e-4)


def test_an_adapter_starts_a_further_run(language_model, trained, tmp_path):
    start = {"lora": {"rank": 4, "start": str(trained / "adapter")}}
    still = TRAINING | {"learning_rate": 1e-12, "epochs": 1}
    out = run(language_model, tmp_path / "out", training=still, **start)
    np.testing.assert_allclose(dev_logits(out), dev_logits(trained), atol=1e-4)


def test_an_adapter_of_another_base_is_refused(trained, tmp_path):
    other = tiny_language_model(tmp_path / "other", "llama")
    with pytest.raises(ConfigError, match=r"it was trained on .* \(content sha256 .*2 layers, .*; expected other \("):
        run(other, tmp_path / "out", lora={"start": str(trained / "adapter")})
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_the_same_base_cut_otherwise_is_refused(language_model, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"2 layers, \d+ tokens; expected .*, 1 layers"):
        run(language_model, tmp_path / "out", encoder={"layers": 1}, lora={"start": str(trained / "adapter")})


def test_an_adapter_of_another_rank_is_refused(language_model, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"has the shape \(4, 64\), expected \(8, 64\); take the same lora\.rank"):
        run(language_model, tmp_path / "out", lora={"rank": 8, "start": str(trained / "adapter")})


def test_a_folder_that_is_no_adapter_is_refused(language_model, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no adapter_config\.json; expected the folder adapter/ of a checkpoint"):
        run(language_model, tmp_path / "out", lora={"start": str(tmp_path / "empty")})
    with pytest.raises((InputError, ConfigError), match="missing"):
        run(language_model, tmp_path / "out", lora={"start": str(tmp_path / "missing")})
    shutil.copytree(trained / "adapter", tmp_path / "damaged")
    (tmp_path / "damaged" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"damaged: adapter_model\.safetensors cannot be read"):
        run(language_model, tmp_path / "out", lora={"start": str(tmp_path / "damaged")})


def test_a_run_that_dies_before_the_checkpoint_is_whole_loses_nothing(language_model, tmp_path, monkeypatch):
    def fail(self, checkpoint):
        finish(self, checkpoint)
        raise KeyboardInterrupt

    finish = Adapter.finish
    monkeypatch.setattr(Adapter, "finish", fail)
    monkeypatch.setattr("training.fitting.loop.snapshots.SNAPSHOT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(language_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    run(language_model, tmp_path / "out")
    run(language_model, tmp_path / "whole")
    np.testing.assert_array_equal(dev_logits(tmp_path / "out"), dev_logits(tmp_path / "whole"))


def test_the_adapter_names_its_base_model(language_model, trained):
    config = json.loads((trained / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == language_model.name
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"lora": {"rank": 0, "dropout": 0.5}}, r"\[lora\] without lora\.rank"),
        ({"lora": {"rank": 0, "load_in_4bit": True}}, r"\[lora\] without lora\.rank; expected a rank, as 32"),
        ({"encoder": {"freeze_word_embeddings": False}}, r"freeze_word_embeddings = false beside \[lora\]"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(more, fault):
    with pytest.raises(ValueError, match=fault):
        recipe("x", **more)
