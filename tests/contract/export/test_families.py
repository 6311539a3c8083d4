"""Architectures, tiny and random, the whole way: train, export, verify, and a score over HTTP."""

import json
import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import tracing
from export.checkpoint import Checkpoint
from export.exporting import DEFAULT_LIMITS, export_bundle
from export.verifying import verify_bundle
from relevance.errors import CheckpointError, ConfigError
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.tasks import LabeledPair, Pair
from tests import ROOT
from tests.models import CLASSIFIERS, DECODERS, tiny_language_model, tiny_model, tiny_tokenizer
from tests.serving import served_scores
from tests.skips import needs_bitsandbytes
from training.fitting import servable
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.evaluation.report import score_rows
from training.fitting.recipe import Recipe
from training.models.base.base_models import resolve_base_model
from training.models.base.prepared import EncoderOptions, prepare_encoder
from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits
from training.models.lora import Adapter
from training.models.options import LoraOptions

# Each architecture with the kind of tokenizer that its models have (tests.models), "" being a byte-level BPE.
FAMILIES = (
    *(("albert", "unigram"), ("bert", "wordpiece"), ("deberta", ""), ("deberta-v2", "unigram")),
    *(("distilbert", "wordpiece"), ("electra", "wordpiece"), ("gemma3", "fallback"), ("gemma3_text", "fallback")),
    *(("llama", "fallback"), ("modernbert", ""), ("mpnet", "wordpiece"), ("qwen2", "tiktoken"), ("qwen3", "tiktoken")),
    *(("roberta", ""), ("xlm-roberta", "unigram"), ("xlm-roberta-xl", "unigram")),
    *(("bert", "unigram"), ("llama", "tiktoken"), ("modernbert", "fallback")),  # E5, Llama 3, mmBERT
)
KINDS = {
    "": "byte-level BPE",
    "wordpiece": "WordPiece",
    "unigram": "Unigram",
    "tiktoken": "tiktoken",
    "fallback": "BPE",
}
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # in DeBERTa and ModernBERT

TYPED = {"bert", "deberta", "deberta-v2", "electra", "albert"}


def rows(start=0):
    made = []
    for i in range(start, start + 24):
        pair = Pair(f"red shoes {i}", f"goods,{'shoes' if i % 2 else 'cups'}", "en" if i % 3 else "de")
        made.append(LabeledPair(pair, i % 2, str(i)))
    return made


def recipe(base, family="bert"):
    head = "mean" if family in DECODERS else "paired"
    return Recipe.model_validate(
        {
            "name": family,
            "task": "qc",
            "base_model": str(base),
            "head": {"kind": head},
            "format": {"candidate_prefix": " category: "},
            "training": {"epochs": 1, "batch_size": 12, "evaluations": 1, "max_length": 48},
        }
    )


def export(folder, name, precision):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        limits = DEFAULT_LIMITS[precision]
        if precision == "int8":
            limits = replace(limits, max_f1_difference=1.0)  # a tiny model's scores lie around its threshold
        return export_bundle(folder / "checkpoint", folder / name, precision, limits, overwrite=False)


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_family_goes_from_training_to_a_score_over_http(tmp_path, family, kind):
    base = tiny_model(tmp_path / "base", family, typed=family in TYPED, kind=kind)
    train(Job(recipe(base, family), rows(), rows(24), tmp_path / "checkpoint"))
    export(tmp_path, "bundle", "fp32")
    if family != "gemma3" and (family, kind) == next(each for each in FAMILIES if each[0] == family):
        export(tmp_path, "small", "int8")
        operators = {node.op_type for node in onnx.load(tmp_path / "small" / MODEL_FILE).graph.node}
        assert "MatMulIntegerToFloat" in operators
        verify_bundle(tmp_path / "small")
    assert verify_bundle(tmp_path / "bundle").worst < 1e-3
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / MODEL_FILE, providers=["CPUExecutionProvider"])
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.input_names == tuple(entry.name for entry in session.get_inputs())
    some = rows()[:4]
    served = served_scores(tmp_path / "bundle", [row.pair for row in some])
    np.testing.assert_allclose(served, score_rows(tmp_path / "checkpoint", some)[1], atol=1e-3)


@pytest.mark.parametrize("in_4bit", [False, pytest.param(True, marks=needs_bitsandbytes)])
@pytest.mark.parametrize("family", sorted({family for family, _ in FAMILIES}))
def test_adapters_of_a_family_are_merged_into_its_weights(tmp_path, family, in_4bit):
    kind = next(kind for name, kind in FAMILIES if name == family)
    base = tiny_model(tmp_path / "base", family, typed=family in TYPED, kind=kind)
    prepare_encoder(resolve_base_model(str(base)), tmp_path / "encoder", EncoderOptions())
    tokenizer = load_tokenizer(tmp_path / "encoder", 48)
    head = recipe(base, family).head
    model = CrossEncoder.from_base(tmp_path / "encoder", tokenizer, head).eval()
    pairs = tokenizer.encode_pairs([("red shoes", "zapatos rojos"), ("cups", "home & garden")])
    plain = predict_logits(model, tokenizer, pairs)
    linear = sum(isinstance(module, torch.nn.Linear) for module in model.encoder.modules())
    adapter = Adapter(model, LoraOptions(rank=2, load_in_4bit=in_4bit), tmp_path / "encoder")
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:  # as after training; zeros at first
            torch.nn.init.normal_(value, std=0.5)
    assert sum(value.dtype is torch.uint8 for value in model.parameters()) == (linear if in_4bit else 0)
    adapted = predict_logits(model, tokenizer, pairs)
    assert np.abs(adapted - plain).max() > 1e-4
    (tmp_path / "out").mkdir()
    adapter.finish(tmp_path / "out")
    np.testing.assert_allclose(predict_logits(model, tokenizer, pairs), adapted, atol=1e-5)
    assert not any("lora" in name for name in model.state_dict())
    assert all(value.dtype is torch.float32 for value in model.parameters())


@needs_bitsandbytes
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_language_model_held_in_4_bits_goes_to_a_score_over_http(tmp_path, family):
    base = tiny_language_model(tmp_path / "base", family)
    given = recipe(base).model_dump(exclude={"head", "lora"}) | {"head": {"kind": "yes_no"}}
    given["training"] |= {"max_length": 112, "learning_rate": 5e-3}
    made = Recipe.model_validate(given | {"lora": {"rank": 2, "load_in_4bit": True}})
    train(Job(made, rows(), rows(24), tmp_path / "checkpoint"))
    export(tmp_path, "bundle", "fp32")
    assert verify_bundle(tmp_path / "bundle").worst < 1e-3
    served = served_scores(tmp_path / "bundle", [row.pair for row in rows(24)])
    trained = 1 / (1 + np.exp(-dev_logits(tmp_path / "checkpoint")))
    np.testing.assert_allclose(served, trained, atol=1e-3)


def test_every_family_that_is_let_through_is_tried_here():
    assert {family for family, _ in FAMILIES} | {
        "camembert"
    } == servable.SERVABLE  # camembert is roberta by another name


def test_the_table_of_families_says_what_the_code_does():
    lines = [line.split("|") for line in (ROOT / "docs/families.md").read_text().splitlines() if line.startswith("| `")]
    table = {cells[1].strip(" `"): [cell.strip() for cell in cells[3:-1]] for cells in lines[1:]}
    assert table.keys() == servable.SERVABLE | servable.REFUSED.keys()
    for family, (kinds, train_, lora, export_, int8, serve, safetensors) in table.items():
        assert safetensors == ("yes" if family in CLASSIFIERS else "")
        if family in servable.REFUSED:
            assert (train_, lora, export_, int8, serve) == ("refused", "", servable.REFUSED[family], "", "")
            continue
        tried = {"camembert": "roberta"}.get(family, family)
        assert kinds == ", ".join(KINDS[kind] for name, kind in FAMILIES if name == tried)
        assert (train_, lora, serve) == ("yes", "yes", "yes")
        assert int8 == ("as `gemma3_text`" if family == "gemma3" else "yes")
        if tracing.optimum_config("bert"):  # else torch's exporter writes them all
            written = {"gemma3": "gemma3_text"}.get(family, family)  # its text model alone
            assert export_ == ("optimum" if tracing.optimum_config(written) else "torch")


@pytest.mark.parametrize("own", [{}, {"auto_map": {"AutoConfig": "configuration.NewConfig"}}])
def test_an_unknown_architecture_is_named_and_its_code_is_not_run(tmp_path, own):
    base = tiny_model(tmp_path / "base")
    (base / "config.json").write_text(json.dumps({"model_type": "strange"} | own))
    (base / "configuration.py").write_text("raise SystemExit")
    with pytest.raises(CheckpointError, match="base: its model cannot be loaded"):
        train(Job(recipe(base), rows(), rows(24), tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


def test_a_missing_tokenizer_is_named(tmp_path):
    base = tiny_model(tmp_path / "base")
    for path in base.glob("*token*"):
        path.unlink()
    with pytest.raises(
        CheckpointError, match=r"its tokenizer cannot be loaded \(no tokenizer\.json, and no vocabulary"
    ):
        train(Job(recipe(base), rows(), rows(24), tmp_path / "out"))


def test_the_exporter_of_torch_names_what_it_cannot_export(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    train(Job(recipe(base), rows(), rows(24), tmp_path / "checkpoint"))
    scorer = Checkpoint.open(tmp_path / "checkpoint").scorer
    scorer.encoder.forward = lambda input_ids, attention_mask, **_: scorer.missing  # of no graph
    with pytest.raises(CheckpointError, match=r"architecture 'bert': .* torch's exporter fails \(.+\)"):
        tracing._by_torch(scorer, tmp_path / "raw.onnx")


@pytest.mark.parametrize("family", ["t5", "xlnet", "funnel"])
def test_what_cannot_be_served_is_refused_before_training(tmp_path, family):
    base = tmp_path / "base"
    base.mkdir()
    tiny_tokenizer(base)
    (base / "config.json").write_text(json.dumps({"model_type": family}))
    (base / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"architecture '{family}' cannot be served, it .*; use one of XLM-R"):
        train(Job(recipe(base), rows(), rows(24), tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"base"}
