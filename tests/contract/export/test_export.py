import json
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import tracing
from export.checkpoint import Checkpoint
from export.exporting import DEFAULT_LIMITS, Limits, export_bundle
from relevance import Scorer
from relevance.errors import CheckpointError, ConfigError, ParityError
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.card import ModelCard
from relevance.model.prior import NO_EVIDENCE, PRIOR_FILE, CategoryPrior
from relevance.model.reports import MAX_REPORT_BYTES
from relevance.storage.files import sha256_of
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from tests.models import tiny_model
from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits
from training.models.options import HeadOptions

ROWS = [
    ("red shoes", "home & garden,cups", "en", 1),
    ("青い 靴", "shoes", "ja", 0),
    ("red", "shoes,sneakers", "en", 0),
    ("long " * 60, "حذاء", "ar", 1),
]

PRIOR = CategoryPrior.of(
    [["home & garden", "cups"], ["home & garden", "pans"], ["shoes"]], [0.9, 0.1, 0.5], [90, 90, 9], folds=5
)


def checkpoint(folder, family="bert", kind="paired", typed=False, prior=None):
    """Write a random but whole checkpoint, as training does, and return its folder."""
    base = tiny_model(folder / f"{family}-{typed}", family, typed=typed)
    tokenizer = load_tokenizer(base, 64)
    torch.manual_seed(0)
    head = HeadOptions(kind=kind, landmarks=40, overlap=kind != "stock", prior=prior is not None)
    model = CrossEncoder.from_base(base, tokenizer, head, " > ").eval()
    out = folder / "checkpoint"
    out.mkdir()
    if model.head:
        torch.nn.init.normal_(model.head["skip_weight"], std=2.0)
    if kind == "kernel":  # none of them near 0
        torch.nn.init.uniform_(model.head["skip_weight"], 0.5, 2.0)
    model.save(out, base)
    if prior is not None:
        prior.save(out)
    ModelCard(
        name="tiny",
        task=Task.QC,
        format=PairFormat(candidate_prefix="category: "),
        max_length=64,
        pad_id=tokenizer.pad_id,
        head=model.spec,
        threshold=0.5,
        base_model="random",
        created="now",
    ).save(out)
    lines = [dict(zip(("query", "candidate", "language", "label"), row, strict=True)) for row in ROWS]
    (out / "dev_pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def exported(source, out, precision="fp32", limits=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        return export_bundle(source, out, precision, limits or DEFAULT_LIMITS[precision], overwrite=False)


@pytest.mark.parametrize("kind", ["stock", "mean", "paired", "kernel"])
@pytest.mark.parametrize(
    ("family", "typed"), [("bert", False), ("bert", True), ("xlm-roberta", False), ("distilbert", False)]
)
def test_encoders_and_heads_survive_export(tmp_path, family, typed, kind):
    manifest = exported(checkpoint(tmp_path, family, kind, typed), tmp_path / "bundle")
    assert manifest.parity.max_logit_difference < 1e-4
    assert ("token_type_ids" in manifest.input_names) == typed
    operators = {node.op_type for node in onnx.load(tmp_path / "bundle" / MODEL_FILE).graph.node}
    assert {"MultiHeadAttention", "LayerNormalization"} <= operators
    assert not {"Attention", "SkipLayerNormalization", "BiasGelu"} & operators


def test_reports_of_the_checkpoint_go_along_and_wrong_ones_are_named(tmp_path):
    source = checkpoint(tmp_path)
    (source / "reports").mkdir()
    (source / "reports/test.html").write_text("<p>rows")
    (source / "reports/notes.txt").write_text("no report")
    manifest = exported(source, tmp_path / "bundle")
    assert manifest.reports == ("test.html",)
    assert Bundle.open(tmp_path / "bundle").report("test.html") == b"<p>rows"
    assert [path.name for path in (tmp_path / "bundle/reports").iterdir()] == ["test.html"]
    (source / "reports/my page.html").write_text("")
    with pytest.raises(CheckpointError, match=r"report 'my page\.html': expected a name of letters"):
        exported(source, tmp_path / "other")
    (source / "reports/my page.html").unlink()
    (source / "reports/large.html").write_bytes(b"x" * (MAX_REPORT_BYTES + 1))
    with pytest.raises(CheckpointError, match=r"reports/large\.html has 16777217 bytes, expected 16777216 at most"):
        exported(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_table_of_word_embeddings_is_whole_though_a_graph_is_made_with_its_first_rows(
    tmp_path, monkeypatch, precision
):
    monkeypatch.setattr(tracing, "TABLE_ROWS", 4)
    source = checkpoint(tmp_path)
    manifest = exported(source, tmp_path / "bundle", precision)
    graph = onnx.load(tmp_path / "bundle" / MODEL_FILE).graph
    (rows,) = {Checkpoint.open(source).scorer.encoder.get_input_embeddings().weight.shape}
    assert rows[0] > 4
    assert tuple(rows) in {tuple(each.dims) for each in graph.initializer}
    assert manifest.parity.max_logit_difference < DEFAULT_LIMITS[precision].max_logit_difference


def test_the_session_does_not_bring_the_slow_kernels_back(tmp_path):
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "bundle" / MODEL_FILE, options, providers=["CPUExecutionProvider"])
    loaded = {node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node}
    assert "LayerNormalization" in loaded
    assert not {"SkipLayerNormalization", "BiasGelu"} & loaded


@pytest.mark.parametrize("kind", ["mean", "paired", "kernel"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_category_prior_survives_export(tmp_path, precision, kind):
    source = checkpoint(tmp_path, kind=kind, prior=PRIOR)
    manifest = exported(source, tmp_path / "bundle", precision)
    assert "features" in manifest.input_names
    assert manifest.sha256[PRIOR_FILE] == sha256_of(source / PRIOR_FILE) == sha256_of(tmp_path / "bundle" / PRIOR_FILE)
    assert Bundle.open(tmp_path / "bundle").prior == PRIOR
    pairs = [Pair("red shoes", path) for path in ("home & garden,cups", "home & garden,pans", "shoes")]
    opened = Checkpoint.open(source)
    expected = opened.logits(opened.inputs.encode(pairs))
    without = opened.logits(opened.inputs.encode(pairs, [NO_EVIDENCE] * len(pairs)))
    found = Scorer.open(tmp_path / "bundle", device="cpu").score(pairs).logits
    np.testing.assert_allclose(found, expected, atol=manifest.parity.max_logit_difference_allowed)
    assert np.abs(expected - without).max() > 0.1
    trained = CrossEncoder.from_checkpoint(source)
    np.testing.assert_allclose(
        predict_logits(trained, opened.tokenizer, opened.inputs.encode(pairs)), expected, atol=1e-6
    )


def test_a_bundle_without_its_prior_says_what_that_costs(tmp_path):
    source = checkpoint(tmp_path, prior=PRIOR)
    limits = DEFAULT_LIMITS["fp32"]
    out = tmp_path / "bundle"
    manifest = export_bundle(source, out, "fp32", limits, overwrite=False, without_prior=True)
    assert Scorer.open(out, device="cpu").tokenize(["red"], ["shoes"], ["en"]).tokens.features.shape == (1, 9)
    assert not (out / PRIOR_FILE).exists()
    assert (manifest.head.prior, manifest.category_prior, Bundle.open(out).prior) == (False, None, None)
    assert any("without the category prior: AUC on 4 pairs" in finding for finding in manifest.findings)
    pairs = [Pair("red shoes", path) for path in ("home & garden,cups", "shoes")]
    opened = Checkpoint.open(source)
    expected = opened.logits(opened.inputs.encode(pairs, [NO_EVIDENCE] * 2))
    np.testing.assert_allclose(Scorer.open(out, device="cpu").score(pairs).logits, expected, atol=1e-3)
    with pytest.raises(ConfigError, match="reads no category prior"):
        export_bundle(checkpoint(tmp_path / "plain"), out, "fp32", limits, overwrite=True, without_prior=True)


@pytest.mark.parametrize("kind", ["stock", "mean"])
def test_decoders_survive_export(tmp_path, kind):
    manifest = exported(checkpoint(tmp_path, "qwen2", kind), tmp_path / "bundle")
    assert manifest.parity.max_logit_difference < 1e-4


def test_a_decoder_without_separator_refuses_the_paired_head(tmp_path):
    with pytest.raises(ConfigError, match="'stock' or 'mean'"):
        checkpoint(tmp_path, "qwen2", "paired")


@pytest.mark.parametrize(("precision", "operator"), [("fp16", "Attention"), ("int8", "MatMulIntegerToFloat")])
def test_reduced_precisions(tmp_path, precision, operator):
    source = checkpoint(tmp_path)
    manifest = exported(source, tmp_path / "bundle", precision)
    assert manifest.precision == precision
    assert 0 < manifest.parity.max_logit_difference < 0.1
    graph = onnx.load(tmp_path / "bundle" / MODEL_FILE).graph
    assert operator in {node.op_type for node in graph.node}
    wide = [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    assert precision == "int8" or not wide


def test_export_and_training_load_one_model(tmp_path):
    source = checkpoint(tmp_path)
    opened = Checkpoint.open(source)
    tokens = opened.tokenizer.encode_pairs([(q, c) for q, c, _, _ in ROWS])
    trained = predict_logits(CrossEncoder.from_checkpoint(source), opened.tokenizer, tokens)
    np.testing.assert_allclose(opened.logits(tokens), trained, atol=1e-6)


def test_the_bundle_gives_its_golden_logits_in_every_language(tmp_path):
    manifest = exported(checkpoint(tmp_path), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    logits = Scorer.open(tmp_path / "bundle", device="cpu").score([g.pair for g in bundle.golden]).logits
    assert bundle.check_golden(logits.tolist()) < 1e-5
    assert {g.language for g in bundle.golden} == {"ar", "en", "ja"} == set(manifest.parity.languages)


def test_a_bundle_past_the_limit_is_refused_and_leaves_nothing(tmp_path):
    source = checkpoint(tmp_path)
    with pytest.raises(ParityError, match="--max-logit-difference"):
        exported(source, tmp_path / "bundle", "int8", Limits(1e-9, 1.0, 1.0))
    assert not (tmp_path / "bundle").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"bert-False", "checkpoint"}


def test_an_existing_bundle_is_kept(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").touch()
    with pytest.raises(ConfigError, match="exists already"):
        exported(checkpoint(tmp_path), tmp_path / "bundle")


@pytest.mark.parametrize("name", ["card.json", "tokenizer.json", "config.json", "head.safetensors", "dev_pairs.jsonl"])
def test_a_missing_checkpoint_file_is_named(tmp_path, name):
    source = checkpoint(tmp_path)
    (source / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        exported(source, tmp_path / "bundle")


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert"])
def test_a_head_on_the_first_token_needs_no_other_row_of_the_last_layer(tmp_path, family):
    exported(checkpoint(tmp_path, family, "stock"), tmp_path / "out")
    graph = onnx.load(tmp_path / "out" / MODEL_FILE).graph
    taken = [place for place, node in enumerate(graph.node) if "first_token" in node.input]
    behind = [node.op_type for node in graph.node[min(taken) :]]
    assert {"MultiHeadAttention", "LayerNormalization", "Gelu"} <= set(behind)  # the last layer's, on one row a pair
    sharing = [node for node in behind if node == "MultiHeadAttention"]
    assert len(sharing) == 1  # the layers before have all rows


def test_a_gpu_keeps_the_fused_operators(tmp_path):
    exported(checkpoint(tmp_path), tmp_path / "out", "fp16")
    operators = {node.op_type for node in onnx.load(tmp_path / "out" / MODEL_FILE).graph.node}
    assert {"Attention", "SkipLayerNormalization", "BiasGelu"} <= operators


def test_a_head_on_all_tokens_keeps_all_rows(tmp_path):
    exported(checkpoint(tmp_path, kind="mean"), tmp_path / "out")
    assert not any("first_token" in node.input for node in onnx.load(tmp_path / "out" / MODEL_FILE).graph.node)
