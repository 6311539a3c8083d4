"""Base weights in 4 bits beside the adapters (QLoRA): what the layers compute, and what merging keeps."""

import sys

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from relevance.errors import ConfigError
from tests.models import shoe_rows, tiny_language_model, tiny_model, tiny_reranker
from tests.skips import needs_bitsandbytes
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.evaluation.report import score_logits
from training.fitting.plan import plan
from training.fitting.recipe import Recipe
from training.models.cross_encoder import CrossEncoder
from training.models.memory import size_of
from training.models.nf4 import pack, unpack, whole_sizes
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.run import Pipeline
from training.pipeline.store import Store

TRAINING = {"epochs": 2, "batch_size": 12, "evaluations": 1, "max_length": 112, "learning_rate": 5e-3}
LORA = {"rank": 4, "load_in_4bit": True}


def recipe(base, kind="yes_no", **more):
    parts = {"name": "packed", "task": "qc", "base_model": str(base), "head": {"kind": kind}, "training": TRAINING}
    return Recipe.model_validate(parts | {"lora": LORA} | more)


def run(base, out, **more):
    train(Job(recipe(base, **more), shoe_rows(), shoe_rows(24), out))
    return out


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return tiny_language_model(tmp_path_factory.mktemp("base"), "qwen3", tied=True)


@pytest.fixture(scope="module")
def trained(language_model, tmp_path_factory):
    return run(language_model, tmp_path_factory.mktemp("packed") / "out")


@needs_bitsandbytes
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_packed_layer_computes_as_a_linear_layer_with_its_weights(bias, precision):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(96, 130, bias), torch.randn(4, 7, 96)
    whole = layer.weight.detach().clone()
    pack(layer)
    weight = layer.unpacked(torch.float32)
    assert 0.02 < (weight - whole).abs().mean() / whole.abs().mean() < 0.1
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        first, second = layer(found), torch.nn.functional.linear(expected, weight, layer.bias)
    for each in (first, second):
        each.float().square().sum().backward()
    assert torch.equal(first, second)
    assert torch.equal(found.grad, expected.grad)
    unpack(layer)
    assert type(layer) is torch.nn.Linear
    assert torch.equal(layer.weight, weight)


@needs_bitsandbytes
def test_a_packed_layer_takes_a_seventh_of_the_bytes_and_autograd_keeps_no_weight():
    layer = torch.nn.Linear(256, 512, bias=False)
    before = size_of(layer)
    pack(layer)
    assert size_of(layer) == before / 8 + before / 64
    assert whole_sizes(layer) == (256 * 512 / 2, before - size_of(layer))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.numel()) or each, lambda each: each):
        layer(torch.randn(3, 256, requires_grad=True))
    assert sum(kept) < 256 * 512


@needs_bitsandbytes
@pytest.mark.parametrize(("family", "kind"), [("bert", "stock"), ("bert", "paired"), ("llama", "stock")])
def test_the_merged_model_scores_as_the_trained_one(tmp_path, family, kind):
    base = (tiny_reranker if kind == "stock" else tiny_model)(tmp_path / "base", family)
    form = {"format": {"candidate_prefix": " category: "}}
    out = run(base, tmp_path / "out", kind=kind, training=TRAINING | {"learning_rate": 1e-3}, **form)
    np.testing.assert_allclose(score_logits(out, shoe_rows(24))[1], dev_logits(out), atol=5e-5)
    merged = load_file(out / "model.safetensors")
    assert {value.dtype for value in merged.values()} == {torch.float32}
    assert merged.keys() == CrossEncoder.from_checkpoint(out).encoder.state_dict().keys()


@needs_bitsandbytes
def test_adapters_learn_and_belong_to_the_packed_weights(language_model, trained, tmp_path):
    """Merged into the base model's own weights, which they were not trained beside, they give other scores."""
    still = run(language_model, tmp_path / "still", training=TRAINING | {"learning_rate": 1e-12})
    assert np.abs(dev_logits(still) - dev_logits(trained)).max() > 1e-2
    np.testing.assert_allclose(score_logits(trained, shoe_rows(24))[1], dev_logits(trained), atol=1e-5)
    ids = torch.tensor([[5, 9, 12, 40]])
    merged = CrossEncoder.from_checkpoint(trained).encoder

    def hidden(*, packed):
        model = AutoModelForCausalLM.from_pretrained(language_model).eval()
        for module in model.model.modules():
            if packed and isinstance(module, torch.nn.Linear):
                pack(module)
        whole = PeftModel.from_pretrained(model, trained / "adapter").eval()
        return whole.get_base_model().model(input_ids=ids).last_hidden_state

    with torch.inference_mode():
        expected = merged(input_ids=ids).last_hidden_state
        torch.testing.assert_close(hidden(packed=True), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(hidden(packed=False), expected, atol=1e-2)


@needs_bitsandbytes
def test_adapters_go_on_in_either_form_of_the_base(language_model, trained, tmp_path):
    still = TRAINING | {"learning_rate": 1e-12, "epochs": 1}
    start = {"rank": 4, "start": str(trained / "adapter")}
    packed = run(language_model, tmp_path / "packed", training=still, lora=start | {"load_in_4bit": True})
    np.testing.assert_allclose(dev_logits(packed), dev_logits(trained), atol=1e-4)
    whole = run(language_model, tmp_path / "whole", training=still, lora=start)
    assert np.abs(dev_logits(whole) - dev_logits(trained)).max() > 1e-3  # the same adapters beside other weights


@needs_bitsandbytes
def test_two_processes_train_as_one(language_model, tmp_path):
    exact = TRAINING | {"precision": "fp32", "epochs": 1}
    lora = LORA | {"dropout": 0.0}
    one = run(language_model, tmp_path / "one", training=exact, lora=lora)
    two = run(language_model, tmp_path / "two", training=exact | {"processes": 2}, lora=lora)
    np.testing.assert_allclose(dev_logits(two), dev_logits(one), atol=1e-4)


@needs_bitsandbytes
def test_the_plan_counts_packed_weights(language_model, tmp_path):
    rows = shoe_rows()
    found = plan(recipe(language_model), rows, rows, tmp_path / "lacking")
    plain = plan(recipe(language_model, lora={"rank": 4}), rows, rows, tmp_path / "lacking")
    linear = found.whole - found.weights  # seven eighths of the layers' bytes, less the scales
    assert (found.parameters, found.trained, found.steps) == (plain.parameters, plain.trained, plain.steps)
    assert found.whole == plain.weights
    assert plain.whole == 0
    model = CrossEncoder.from_checkpoint(run(language_model, tmp_path / "out")).encoder
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear == sum(4 * each.weight.numel() for each in layers) * (1 - 1 / 8 - 1 / 64)
    assert 0 < found.activations < 1.5 * plain.activations
    assert found.total == found.optimizer + found.kept + max(
        found.weights + max(found.gradients + found.activations, found.evaluation), found.whole
    )


def test_an_architecture_that_was_never_tried_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("training.fitting.packages.find_spec", lambda name: name)
    base, rows = tiny_model(tmp_path / "base", "roformer"), shoe_rows()
    for do in (lambda g: train(Job(g, rows, rows, tmp_path / "out")), lambda g: plan(g, rows, rows, tmp_path / "no")):
        with pytest.raises(ConfigError, match=r"architecture 'roformer' was not tried so; expected false, or .*bert"):
            do(recipe(base, kind="mean"))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_is_missing_is_named_before_anything_is_done(tmp_path, monkeypatch):
    base = tiny_model(tmp_path / "base")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    given, rows = recipe(base, kind="mean"), shoe_rows()
    fault = r"lora\.load_in_4bit: package 'bitsandbytes' is not installed; expected: pip install '\.\[train,qlora\]'"
    with pytest.raises(ConfigError, match=fault):
        train(Job(given, rows, rows, tmp_path / "out"))
    with pytest.raises(ConfigError, match=fault):
        plan(given, rows, rows, tmp_path / "lacking")
    whole = PipelineRecipe.model_validate(given.model_dump() | {"data": {"train": ["rows.csv"]}})
    with pytest.raises(ConfigError, match=fault):
        Pipeline(whole, Store(tmp_path / "store"))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"lora\.rank: package 'peft' .*\[train,lora\]"):
        train(Job(recipe(base, kind="mean", lora={"rank": 4}), rows, rows, tmp_path / "out"))
