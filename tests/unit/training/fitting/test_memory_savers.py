"""Parts of a batch and repeated layers save memory and change nothing else."""

import json

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Pair, Task
from tests.models import tiny_language_model, tiny_model
from training.fitting.checkpoint import Job, train
from training.fitting.loop.finetune import FineTuner
from training.fitting.loop.optimizer import Optimizer
from training.fitting.recipe import Recipe, TrainingSection
from training.fitting.rows.examples import Examples
from training.models.cross_encoder import CrossEncoder, load_tokenizer, tensors
from training.models.options import HeadOptions
from training.models.used_rows import used_rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # in ModernBERT
TEXTS = [(f"red shoes {i}" + " and cups" * (i % 4), "home & garden") for i in range(10)]


@pytest.fixture(params=["bert", "modernbert", "qwen3", "llama"])
def made(request, tmp_path):
    """A cross-encoder, its tokenizer and ten pairs."""
    return encoder_of(tiny_model(tmp_path / "base", request.param))


def encoder_of(base, **options):
    tokenizer = load_tokenizer(base, 64)
    torch.manual_seed(0)
    model = CrossEncoder.from_base(base, tokenizer, HeadOptions(kind="mean", **options))
    return model, tokenizer, tokenizer.encode_pairs(TEXTS)


def drop_nothing(base):
    path = base / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: 0.0 if "dropout" in name else value for name, value in config.items()}))


def gradients_of_a_step(made, tmp_path, size):
    """Loss and gradients of one step on all pairs in parts of a size, those of the words' rows included."""
    model, tokenizer, pairs = made
    section = TrainingSection(micro_batch_size=size, learning_rate=1e-12, head_learning_rate=1e-12)
    tuner = FineTuner(model, tokenizer, section, 0, tmp_path)
    places, none = np.arange(10), np.zeros(0)
    examples = Examples(pairs, places % 2, 0.1 * places, 1.0 + places, none, none)
    with used_rows(model, (i for pair in pairs for i in pair.input_ids)):
        tuner._optimizer = Optimizer(model, section, "fp32", torch.device("cpu"))
        loss, _ = tuner._step(examples, [places], 0)
        found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return loss, {name: value.to_dense() if value.is_sparse else value for name, value in found.items()}


@pytest.fixture
def default_dtype():
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_parts_of_a_batch_give_the_step_of_the_whole(tmp_path, monkeypatch, family, size):
    drop_nothing(base := tiny_model(tmp_path / "base", family))
    made = encoder_of(base, dropout=0.0)
    made[0].double()  # so that the order of sums changes no digit that is compared
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    loss, whole = gradients_of_a_step(made, tmp_path, 0)
    part_loss, parts = gradients_of_a_step(made, tmp_path, size)
    assert part_loss == pytest.approx(loss, rel=1e-9)
    assert any("embed" in name for name in whole)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-9, rtol=1e-6)


def gradients(model, inputs):
    """The gradients of a training pass, and the bytes that it kept for the backward pass."""
    kept = {}

    def pack(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    model.zero_grad()
    model.train()
    torch.manual_seed(4)
    with saved_tensors_hooks(pack, lambda value: value):
        loss = model(**inputs).square().sum()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}, sum(
        kept.values()
    )


def test_checkpointed_layers_give_the_same_gradients_and_keep_less(made):
    model, tokenizer, pairs = made
    inputs = tensors(tokenizer, pairs * 4)
    plain, much = gradients(model, inputs)
    model.checkpoint_layers()
    repeated, little = gradients(model, inputs)
    assert plain.keys() == repeated.keys()
    for name, value in plain.items():  # dropout included: its random state is repeated
        torch.testing.assert_close(repeated[name], value, atol=1e-6, rtol=1e-5)
    assert little < 0.5 * much


def test_an_architecture_that_cannot_repeat_layers_is_named(tmp_path):
    base = tiny_model(tmp_path / "base", "mpnet")
    recipe = Recipe.model_validate(
        {"name": "x", "task": "qi", "base_model": str(base), "training": {"gradient_checkpointing": True}}
    )
    rows = [LabeledPair(Pair(f"shoes {i}", "cups"), i % 2, str(i)) for i in range(8)]
    with pytest.raises(ConfigError, match=r"training\.gradient_checkpointing: 'mpnet' does not support it"):
        train(Job(recipe, rows, rows, tmp_path / "out"))


def test_a_loss_within_queries_needs_whole_batches():
    with pytest.raises(ValueError, match="micro_batch_size beside a loss within queries"):
        TrainingSection(micro_batch_size=4, lambdarank_weight=1)


def test_a_language_model_trains_with_both(tmp_path):
    base = tiny_language_model(tmp_path / "base")
    training = {"gradient_checkpointing": True, "micro_batch_size": 4, "batch_size": 8, "max_length": 112}
    recipe = Recipe.model_validate(
        {"name": "x", "task": Task.QI, "base_model": str(base), "head": {"kind": "yes_no"}, "training": training}
    )
    rows = [LabeledPair(Pair(f"shoes {i}", "red cups" if i % 2 else "cups"), i % 2, str(i)) for i in range(16)]
    card = train(Job(recipe, rows, rows, tmp_path / "out"))
    assert card.recipe["training"]["micro_batch_size"] == 4
