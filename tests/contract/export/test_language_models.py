"""Tiny random language models that answer yes or no, the whole way: train, export, verify, and a score over HTTP."""

import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from export.exporting import DEFAULT_LIMITS, export_bundle
from export.verifying import verify_bundle
from relevance.errors import CheckpointError, ConfigError, InputError
from relevance.model.bundle import Bundle
from relevance.model.card import ModelCard
from relevance.model.inputs import PairInputs
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.prompt import Prompt, default_prompt
from tests.models import shoe_rows, tiny_language_model, tiny_model
from tests.serving import served_scores
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation.report import score_rows
from training.fitting.recipe import Recipe
from training.models.base.base_models import resolve_base_model
from training.models.base.prepared import EncoderOptions, prepare_encoder
from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits, tensors
from training.models.options import HeadOptions

PROMPT = Prompt(text="Query: {query}\nItem: {candidate}\nAnswer:")
TRAINING = {"epochs": 5, "batch_size": 8, "evaluations": 1, "max_length": 112, "learning_rate": 3e-3}
PAIRS = [Pair("red shoes", "zapatos rojos"), Pair("cups", "home & garden lamps, white"), Pair("青い 靴", "shoes")]


def recipe(base, **more):
    return Recipe.model_validate(
        {
            "name": "asked",
            "task": "qc",
            "base_model": str(base),
            "head": {"kind": "yes_no"},
            "training": TRAINING,
        }
        | more
    )


def made(tmp_path, base, prompt=PROMPT):
    """An untrained cross-encoder over a base model, and how it reads items."""
    prepare_encoder(resolve_base_model(str(base)), tmp_path / "prepared", EncoderOptions(prompt=prompt))
    tokenizer = load_tokenizer(tmp_path / "prepared", 96, prompt)
    model = CrossEncoder.from_base(tmp_path / "prepared", tokenizer, HeadOptions(kind="yes_no"))
    return model.eval(), PairInputs(Task.QI, PairFormat(), tokenizer)


@pytest.mark.parametrize(("family", "steps"), [("qwen3", False), ("llama", False), ("qwen3", True)])
def test_a_language_model_goes_from_training_to_a_score_over_http(tmp_path, family, steps):
    base = tiny_language_model(tmp_path / "base", family, tied=family == "qwen3", positions=512)
    asked = recipe(base, prompt={"steps": steps}, training=TRAINING | {"max_length": 480 if steps else 112})
    card = train(Job(asked, shoe_rows(), shoe_rows(24), tmp_path / "checkpoint"))
    assert card.prompt.text == default_prompt(Task.QC, steps=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", "fp32", DEFAULT_LIMITS["fp32"], overwrite=False)
    assert verify_bundle(tmp_path / "bundle").worst < 1e-3
    assert Bundle.open(tmp_path / "bundle").manifest.prompt == card.prompt
    some = shoe_rows()[:6]
    served = served_scores(tmp_path / "bundle", [row.pair for row in some])
    np.testing.assert_allclose(served, score_rows(tmp_path / "checkpoint", some)[1], atol=1e-5)
    assert np.ptp(served) > 1e-2  # scores differ by more than the tolerance


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "gemma3", "gemma3_text"])
def test_the_score_is_the_softmax_of_the_language_models_own_logits(tmp_path, family):
    base = tiny_language_model(tmp_path / "base", family)
    model, inputs = made(tmp_path, base)
    logits = predict_logits(model, inputs.tokenizer, inputs.encode(PAIRS))
    whole, tokenizer = AutoModelForCausalLM.from_pretrained(base), Tokenizer.from_file(str(base / "tokenizer.json"))
    answers = [tokenizer.token_to_id(word) for word in ("Ġyes", "Ġno")]
    for pair, logit in zip(PAIRS, logits, strict=True):
        text = PROMPT.text.replace("{query}", inputs.format.query_text(pair.query))
        text = text.replace("{candidate}", inputs.format.candidate_text(Task.QI, pair.candidate))
        with torch.inference_mode():
            last = whole(torch.tensor([tokenizer.encode(text).ids])).logits[0, -1, answers]
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(float(last.softmax(0)[0]), abs=1e-6)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_padding_on_either_side_gives_the_same_logits(tmp_path, family):
    model, inputs = made(tmp_path, tiny_language_model(tmp_path / "base", family))
    batch = tensors(inputs.tokenizer, inputs.encode(PAIRS))
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 1
    width = batch["input_ids"].shape[1]
    left = dict(batch)
    for name in ("input_ids", "attention_mask"):
        rolled = [row.roll(width - n) for row, n in zip(batch[name], lengths, strict=True)]
        left[name] = torch.stack(rolled)
    with torch.inference_mode():
        torch.testing.assert_close(model(**left), model(**batch), atol=1e-5, rtol=1e-5)


def test_the_answers_rows_are_trained_at_the_models_rate_and_written(tmp_path):
    base = tiny_language_model(tmp_path / "base")
    train(Job(recipe(base), shoe_rows(), shoe_rows(24), tmp_path / "out"))
    before = AutoModelForCausalLM.from_pretrained(base).get_output_embeddings().weight
    after = load_file(tmp_path / "out" / "head.safetensors")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    first = before[[tokenizer.token_to_id(word) for word in ("Ġyes", "Ġno")]].detach()
    steps = 15
    assert 0 < float((after["answers.weight"] - first).abs().max()) < 1.5 * steps * 3e-3
    assert ModelCard.load(tmp_path / "out").head.features == 0


def test_an_encoder_has_no_answers(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    with pytest.raises((ConfigError, CheckpointError), match="a yes_no head needs a language model"):
        train(Job(recipe(base, prompt={"yes": "s", "no": "c"}), shoe_rows(), shoe_rows(24), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_files_without_the_language_models_head_are_refused(tmp_path):
    base = tiny_language_model(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "lm_head" not in k}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"no weights for \['lm_head.weight'\], its language-model head"):
        train(Job(recipe(base), shoe_rows(), shoe_rows(24), tmp_path / "out"))


def test_a_head_of_further_layers_is_refused(tmp_path):
    base = tiny_language_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.lm_head.register_forward_hook(lambda *_: torch.tanh(_[-1]) * 3)  # soft caps, as Gemma 2 has them
    from training.models.base.answers import answer_rows

    with pytest.raises(ConfigError, match="its logits are not one linear layer over the last hidden state"):
        answer_rows(model, (5, 6))


@pytest.mark.parametrize(
    ("more", "error", "fault"),
    [
        ({"training": {"max_length": 20}}, InputError, r"max_length 20: expected more than \d+ tokens of the prompt"),
        ({"training": {"max_length": 200}}, ConfigError, "max_length 200: the model has 130 positions"),
        ({"prompt": {"yes": " certainly"}}, InputError, "its answer ' certainly' is not one token after"),
    ],
)
def test_what_does_not_fit_is_named_before_training(tmp_path, more, error, fault):
    base = tiny_language_model(tmp_path / "base")
    with pytest.raises(error, match=fault):
        train(Job(recipe(base, **more), shoe_rows(), shoe_rows(24), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"prompt": {"text": "only {query}"}}, r"expected \{query\} and \{candidate\}, once each"),
        ({"prompt": {"text": PROMPT.text, "steps": True}}, r"prompt\.steps = true beside prompt\.text"),
        ({"head": {"kind": "mean"}, "prompt": {"steps": True}}, r"\[prompt\]: a mean head reads no prompt"),
        ({"head": {"kind": "yes_no", "overlap": True}}, r"head\.overlap = true: the head is yes_no"),
        ({"head": {"kind": "yes_no", "prior": True}}, r"head\.prior = true: the head is yes_no"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(more, fault):
    with pytest.raises(ValueError, match=fault):
        recipe("x", **more)
