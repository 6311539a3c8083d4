"""`relevance import`: re-rankers of other libraries become checkpoints that score as their own library does."""

import json
import warnings

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from export.exporting import DEFAULT_LIMITS, export_bundle
from export.verifying import verify_bundle
from relevance.errors import CheckpointError, ConfigError, ParityError
from relevance.model.card import ModelCard
from relevance.model.inputs import PairInputs
from relevance.tasks import Task
from tests.commands import relevance
from tests.models import tiny_config, tiny_reranker
from tests.serving import in_process
from training.importing import checkpoint
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions

QUERY = "red  shoes"  # two spaces: texts go in as they are
DOCUMENTS = ["zapatos rojos", "home & garden > cups,\n FREE SHIPPING!", "青い 靴", "shoes " * 90]
PAIRS = [(QUERY, document) for document in DOCUMENTS]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # in ModernBERT


def outputs(folder, pairs=PAIRS, max_length=64):
    """The outputs [N, L] of the model's own library."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.inference_mode():
        read = tokenizer(pairs, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        return model.eval()(**read).logits.numpy().astype(np.float64)


def imported(model, out, **options):
    return import_reranker(str(model), out, ImportOptions(max_length=64, **options))


def bundle_of(checkpoint, out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        export_bundle(checkpoint, out, "fp32", DEFAULT_LIMITS["fp32"], overwrite=False)
    return out


def served(bundle, query=QUERY):
    """The scores by /v1/score, and the raw scores by /rerank."""

    async def ask(client, service):
        body = {"task": "rerank", "query": query, "candidates": DOCUMENTS}
        scores = (await client.post("/v1/score", json=body)).raise_for_status().json()["scores"]
        body = {"query": query, "texts": DOCUMENTS, "raw_scores": True}
        ranks = (await client.post("/rerank", json=body)).raise_for_status().json()
        raw = {rank["index"]: rank["score"] for rank in ranks}
        return [each["score"] for each in scores], [raw[place] for place in range(len(DOCUMENTS))]

    return in_process({Task.RERANK: bundle}, ask)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "qwen3"])
def test_scores_over_http_are_those_of_the_models_own_library(tmp_path, family):
    model = tiny_reranker(tmp_path / "model", family)
    expected = outputs(model)[:, 0]
    assert expected.std() > 0.05
    assert imported(model, tmp_path / "checkpoint").task is Task.RERANK
    bundle = bundle_of(tmp_path / "checkpoint", tmp_path / "bundle")
    assert verify_bundle(bundle).worst < 1e-4
    scores, raw = served(bundle)
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    np.testing.assert_allclose(scores, sigmoid(expected), atol=1e-4)


@pytest.mark.parametrize("labels", [2, 3])
def test_a_softmax_share_is_the_score_where_there_are_several_labels(tmp_path, labels):
    model = tiny_reranker(tmp_path / "model", labels=labels)
    imported(model, tmp_path / "checkpoint", label=None if labels == 2 else "LABEL_1")
    every = np.exp(outputs(model))
    scores, _ = served(bundle_of(tmp_path / "checkpoint", tmp_path / "bundle"))
    np.testing.assert_allclose(scores, every[:, 1] / every.sum(1), atol=1e-4)


def test_a_label_has_a_sigmoid_of_its_own_where_the_files_say_so(tmp_path):
    model = tiny_reranker(tmp_path / "model", labels=3, problem_type="multi_label_classification")
    imported(model, tmp_path / "checkpoint", label="2")
    scores, _ = served(bundle_of(tmp_path / "checkpoint", tmp_path / "bundle"))
    np.testing.assert_allclose(scores, sigmoid(outputs(model)[:, 2]), atol=1e-4)


def test_the_models_own_files_say_prompt_activation_length_and_licence(tmp_path):
    model = tiny_reranker(tmp_path / "model", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    own = {"prompts": {"shop": "query: ", "other": "x"}, "default_prompt_name": "shop"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(own))
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    (model / "README.md").write_text("---\ntags:\n- rerank\nlicense: apache-2.0\n---\n# A model\n")
    card = import_reranker(str(model), tmp_path / "checkpoint", ImportOptions())
    assert (card.format.query_prefix, card.max_length, card.license) == ("query: ", 48, "apache-2.0")
    assert card.recipe["import"]["activation"] == "identity"
    assert card.name == card.base_model == "model"
    scores, _ = served(bundle_of(tmp_path / "checkpoint", tmp_path / "bundle"))
    expected = outputs(model, [("query: " + QUERY, document) for document in DOCUMENTS], 48)[:, 0]
    np.testing.assert_allclose(scores, sigmoid(expected), atol=1e-4)


def test_the_command_imports_under_another_task_and_name(tmp_path):
    tiny_reranker(tmp_path / "model")
    arguments = ["--task", "qi", "--name", "mine", "--threshold", "0.2", "--json"]
    done = relevance("import", tmp_path / "model", tmp_path / "checkpoint", *arguments)
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "checkpoint")
    assert json.loads(done.stdout) == card.model_dump(mode="json")
    assert (card.task, card.name, card.threshold, card.max_length) == (Task.QI, "mine", 0.2, 130)
    assert "largest difference of a logit" in done.stderr


def refused(tmp_path, error, message, *, model=None, **options):
    with pytest.raises(error, match=message):
        import_reranker(str(model or tmp_path / "model"), tmp_path / "out", ImportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_more_than_two_labels_need_the_one_that_counts(tmp_path):
    tiny_reranker(tmp_path / "model", labels=3)
    refused(tmp_path, ConfigError, r"it has 3 labels; expected --label .* one of 0 \(LABEL_0\), 1 \(LABEL_1\), 2")
    refused(tmp_path, ConfigError, r"--label 'yes': expected one of 0 \(LABEL_0\)", label="yes")


def test_what_is_no_classifier_is_refused(tmp_path):
    tiny_reranker(tmp_path / "model")
    AutoModel.from_config(tiny_config("bert")).save_pretrained(tmp_path / "model")
    refused(tmp_path, ConfigError, "its architecture is BertModel; expected a model whose architecture ends in ForSeq")
    config = tmp_path / "model/config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForSequenceClassification"))
    refused(tmp_path, CheckpointError, r"no weights for .*classifier\.bias, classifier\.weight")
    config.write_text(json.dumps({"model_type": "strange", "architectures": ["StrangeForSequenceClassification"]}))
    refused(tmp_path, CheckpointError, r"its model cannot be loaded \(.*`strange`")


def test_code_of_a_model_is_never_run(tmp_path):
    model = tiny_reranker(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    own = {"model_type": "new", "auto_map": {"AutoConfig": "configuration.NewConfig"}}
    (model / "config.json").write_text(json.dumps(config | own))
    (model / "configuration.py").write_text("raise SystemExit")
    refused(tmp_path, CheckpointError, r"its model cannot be loaded \(.*custom code")


def test_a_missing_tokenizer_is_named(tmp_path):
    model = tiny_reranker(tmp_path / "model")
    for path in model.glob("*token*"):
        path.unlink()
    refused(tmp_path, CheckpointError, r"model: its tokenizer cannot be loaded \(no tokenizer\.json")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    tiny_reranker(tmp_path / "model", vocab_size=280)
    refused(tmp_path, CheckpointError, "its tokenizer has 300 tokens, its model 280")


def test_lengths_and_prompts_that_do_not_fit_are_refused(tmp_path):
    tiny_reranker(tmp_path / "model")
    refused(tmp_path, ConfigError, "--max-length 131: expected at most 130", max_length=131)
    refused(
        tmp_path,
        ConfigError,
        r"prompt 'shoes shoes .* of 64 tokens; expected room",
        prompt="shoes " * 99,
        max_length=64,
    )


def test_further_modules_are_refused(tmp_path):
    model = tiny_reranker(tmp_path / "model")
    kinds = [{"type": "a.Transformer"}, {"type": "b.Dense"}]
    (model / "modules.json").write_text(json.dumps(kinds))
    refused(tmp_path, ConfigError, "its modules are Transformer, Dense; expected a model of pairs alone")


def test_a_checkpoint_that_disagrees_is_not_written(tmp_path, monkeypatch):
    tiny_reranker(tmp_path / "model")
    monkeypatch.setattr(checkpoint, "predict_logits", lambda model, tokenizer, pairs: np.zeros(len(pairs)))
    refused(tmp_path, ParityError, "by its own library and 0.00000 here; expected scores within 0.0001")


def test_rounding_of_a_large_model_is_no_disagreement(tmp_path, monkeypatch):
    tiny_reranker(tmp_path / "model")
    real = checkpoint.predict_logits
    monkeypatch.setattr(checkpoint, "predict_logits", lambda *given: real(*given) + 4e-3)
    refused(tmp_path, ParityError, "expected scores within 0.0001 and logits within 0")
    monkeypatch.setattr(checkpoint, "predict_logits", lambda *given: real(*given) + 2e-4)
    assert import_reranker(str(tmp_path / "model"), tmp_path / "out", ImportOptions()).name == "model"


def test_an_output_that_is_there_is_kept(tmp_path):
    model = tiny_reranker(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        import_reranker(str(model), tmp_path / "out", ImportOptions())
    assert (tmp_path / "out/mine.txt").read_text() == "x"


def test_token_types_that_the_library_does_not_give_the_model_are_left_out(tmp_path):
    model = tiny_reranker(tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text())
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    (model / "tokenizer_config.json").write_text(json.dumps(config | inputs))
    card = imported(model, tmp_path / "checkpoint")  # checks that logits agree
    assert not any(PairInputs.from_checkpoint(tmp_path / "checkpoint", card).tokenizer.template.types)
