import pytest
import torch

from tests.models import tiny_model
from training.models.cross_encoder import CrossEncoder, load_tokenizer, tensors
from training.models.first_token import MODEL_TYPES
from training.models.options import HeadOptions

PAIRS = [("red shoes", "cups"), ("home", "home & garden > cups")]


def made(folder, family):
    tokenizer = load_tokenizer(tiny_model(folder, family), 64)
    torch.manual_seed(0)
    model = CrossEncoder.from_base(folder, tokenizer, HeadOptions(kind="stock")).eval()
    return model, tensors(tokenizer, tokenizer.encode_pairs(PAIRS))


def parts(model):
    return model.encoder.base_model.encoder.layer[-1].attention.output


def gradients(model, logits):
    model.zero_grad()
    logits.sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", sorted(MODEL_TYPES))
def test_logits_and_gradients_stay(tmp_path, family):
    model, inputs = made(tmp_path / family, family)
    widths = []
    parts(model).register_forward_hook(lambda _, given, out: widths.append(out.shape[1]))
    logits = model(**inputs)
    found = gradients(model, logits)
    parts(model)._forward_pre_hooks.clear()
    whole = model(**inputs)
    assert widths == [1, inputs["input_ids"].shape[1]]
    torch.testing.assert_close(logits, whole)
    expected = gradients(model, whole)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", ["distilbert", "qwen2"])
def test_other_architectures_are_left_alone(tmp_path, family):
    model, inputs = made(tmp_path / family, family)
    assert model(**inputs).shape == (2,)


def test_other_heads_read_every_token(tmp_path):
    tokenizer = load_tokenizer(tiny_model(tmp_path / "base"), 64)
    model = CrossEncoder.from_base(tmp_path / "base", tokenizer, HeadOptions(kind="mean")).eval()
    assert not model.encoder.encoder.layer[-1].attention.output._forward_pre_hooks
