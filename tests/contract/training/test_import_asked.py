"""Re-rankers that read a pair within a prompt, as Qwen3-Reranker: scores over HTTP are those of its documented use."""

import json
import warnings

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from export.exporting import DEFAULT_LIMITS, export_bundle
from relevance.errors import CheckpointError, ConfigError, InputError
from relevance.model.heads import HeadKind
from relevance.tasks import Task
from tests.commands import relevance
from tests.models import INSTRUCTION, QWEN3_RERANKER, tiny_asked_reranker, tiny_language_model
from tests.serving import in_process
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions

QUERY = "red  shoes?"  # its sign and the line break behind it are one token
DOCUMENTS = ["zapatos rojos", "home & garden > cups,\n FREE SHIPPING!", "青い 靴", "shoes " * 300, "\n cups!\n"]
LENGTH = 256
ANSWERS = ("true_token_id", "false_token_id")
OWN_INSTRUCTION = "Does the item answer the query?"


def documented_logits(folder, instruction=INSTRUCTION):
    """The log-odds of yes by the steps that the makers of Qwen3-Reranker document, with transformers alone."""
    prefix, rest = QWEN3_RERANKER.split("<Instruct>")
    suffix = rest.split("{candidate}")[1]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (prefix, suffix))
    texts = [f"<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {each}" for each in DOCUMENTS]
    cut = {"truncation": "longest_first", "max_length": LENGTH - len(before) - len(after)}
    read = tokenizer(texts, padding=False, return_attention_mask=False, add_special_tokens=False, **cut)
    rows = [before + ids + after for ids in read["input_ids"]]
    assert len(rows[3]) == LENGTH
    inputs = tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt")
    with torch.inference_mode():
        last = model(**inputs).logits[:, -1].double()
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    return (last[:, yes] - last[:, no]).numpy()


def template(folder, text=f"{QWEN3_RERANKER}\n"):  # the last line break ends the file
    path = folder / "prompt.txt"
    path.write_text(text)
    return str(path)


def of_role(role):
    """A message of a role, in a Jinja template."""
    return f'messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first'


OWN_TEMPLATE = (
    QWEN3_RERANKER.replace(INSTRUCTION, f"{{{{ {of_role('system')} }}}}")
    .replace("{query}", f"{{{{ {of_role('query')} }}}}")
    .replace("{candidate}", f"{{{{ {of_role('document')} }}}}")
    + "\n"
)


def with_own_template(model):
    """Write the files by which sentence-transformers knows how to ask the model."""
    (model / "chat_template.jinja").write_text(OWN_TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = {name: tokenizer.convert_tokens_to_ids(word) for name, word in zip(ANSWERS, ("yes", "no"), strict=True)}
    (model / "1_LogitScore").mkdir()
    (model / "1_LogitScore/config.json").write_text(json.dumps(ids))
    kinds = ("sentence_transformers.base.modules.transformer.Transformer", "")
    score = ("sentence_transformers.cross_encoder.modules.logit_score.LogitScore", "1_LogitScore")
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate((kinds, score))]
    (model / "modules.json").write_text(json.dumps(modules))
    own = {"model_type": "CrossEncoder", "prompts": {"item": OWN_INSTRUCTION}, "default_prompt_name": "item"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(own))
    method = {"method": "forward", "method_output_name": "logits"}
    transformer = {
        "transformer_task": "text-generation",
        "modality_config": {"text": method, "message": method | {"format": "flat"}},
        "module_output_name": "causal_logits",
        "max_seq_length": LENGTH,
    }
    (model / "sentence_bert_config.json").write_text(json.dumps(transformer))
    return model


def served(checkpoint):
    """The scores by /v1/score, and the raw scores by /rerank, of an imported model."""
    bundle = checkpoint.with_name("bundle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        export_bundle(checkpoint, bundle, "fp32", DEFAULT_LIMITS["fp32"], overwrite=False)

    async def ask(client, service):
        body = {"task": "rerank", "query": QUERY, "candidates": DOCUMENTS}
        scores = (await client.post("/v1/score", json=body)).raise_for_status().json()["scores"]
        body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}
        ranks = (await client.post("/rerank", json=body)).raise_for_status().json()
        raw = {rank["index"]: rank["score"] for rank in ranks}
        return [each["score"] for each in scores], [raw[place] for place in range(len(DOCUMENTS))]

    return in_process({Task.RERANK: bundle}, ask)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def test_scores_over_http_are_those_of_the_documented_use(tmp_path):
    model = tiny_asked_reranker(tmp_path / "model")
    expected = documented_logits(model)
    assert expected.std() > 0.1
    options = ["--template", "qwen3-reranker", "--max-length", LENGTH]
    done = relevance("import", model, tmp_path / "checkpoint", *options, "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["prompt"]["text"], card["prompt"]["yes"], card["prompt"]["no"]) == (QWEN3_RERANKER, "yes", "no")
    assert (card["head"]["kind"], card["max_length"]) == (HeadKind.YES_NO, LENGTH)
    scores, raw = served(tmp_path / "checkpoint")
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    np.testing.assert_allclose(scores, sigmoid(expected), atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # those of the other library
def test_the_models_own_files_say_prompt_answers_and_length(tmp_path):
    model = with_own_template(tiny_asked_reranker(tmp_path / "model"))
    card = import_reranker(str(model), tmp_path / "checkpoint", ImportOptions())
    assert card.prompt.text == QWEN3_RERANKER.replace(INSTRUCTION, OWN_INSTRUCTION)
    assert (card.prompt.yes, card.prompt.no, card.max_length) == ("yes", "no", LENGTH)
    scores, raw = served(tmp_path / "checkpoint")
    expected = documented_logits(model, OWN_INSTRUCTION)
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    if not hasattr(library.cross_encoder, "modules"):
        pytest.skip("this sentence-transformers asks no language models")
    predicted = library.CrossEncoder(str(model), device="cpu").predict([(QUERY, document) for document in DOCUMENTS])
    np.testing.assert_allclose(scores, sigmoid(expected), atol=1e-4)
    np.testing.assert_allclose(predicted, scores, atol=1e-4)


def test_a_classifier_reads_a_pair_within_a_prompt_too(tmp_path):
    model = tiny_asked_reranker(tmp_path / "model", classifier=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
    classifier.config.pad_token_id = tokenizer.pad_token_id
    before, between = QWEN3_RERANKER.split("{query}")
    documents = [between.replace("{candidate}", document).removeprefix("\n") for document in DOCUMENTS[:3]]
    with torch.inference_mode():  # as its card says: two formatted texts
        read = tokenizer([f"{before}{QUERY}\n"] * 3, documents, padding=True, return_tensors="pt")
        expected = classifier(**read).logits[:, 0].numpy()
    import_reranker(str(model), tmp_path / "checkpoint", ImportOptions(template=template(tmp_path), max_length=LENGTH))
    scores, raw = served(tmp_path / "checkpoint")
    np.testing.assert_allclose(raw[:3], expected, atol=1e-4)
    np.testing.assert_allclose(scores, sigmoid(raw), atol=1e-4)


def test_other_answers_and_an_instruction_of_ones_own(tmp_path):
    model = tiny_asked_reranker(tmp_path / "model")
    (model / "chat_template.jinja").write_text(OWN_TEMPLATE)
    options = ImportOptions(prompt="Compare them.", yes="red", no="cups", max_length=LENGTH)
    card = import_reranker(str(model), tmp_path / "checkpoint", options)
    assert "<Instruct>: Compare them.\n<Query>: {query}\n" in card.prompt.text
    assert (card.prompt.yes, card.prompt.no) == ("red", "cups")


def test_a_text_begins_with_the_mark_that_the_tokenizer_puts_before_it(tmp_path):
    model = tiny_language_model(tmp_path / "model", "llama", positions=512)
    text = "Query: {query}\nItem: {candidate}\nAnswer:\n\n"
    card = import_reranker(str(model), tmp_path / "checkpoint", ImportOptions(template=template(tmp_path, text)))
    assert card.prompt.text == text.removesuffix("\n")


def refused(tmp_path, error, message, **options):
    with pytest.raises(error, match=message):
        import_reranker(str(tmp_path / "model"), tmp_path / "out", ImportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_a_language_model_without_a_prompt_for_pairs_is_refused(tmp_path):
    model = tiny_asked_reranker(tmp_path / "model")
    refused(tmp_path, ConfigError, "whose chat template has no places for a query and a document; expected --template")
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    refused(tmp_path, ConfigError, "whose chat template has no places for a query and a document; expected --template")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Query: {query}", r"prompt\.txt gives 'Query: {query}'; expected a text or a Jinja template in which"),
        ("{candidate} {query}", "stand once each, in this order"),
        ("{{ messages[0", "gives .TemplateSyntaxError: .*; expected a text"),
        ("{{ raise_exception('other roles') }}", "gives 'TemplateError: other roles'; expected a text"),
    ],
)
def test_a_template_without_its_places_is_named(tmp_path, text, fault):
    tiny_asked_reranker(tmp_path / "model")
    refused(tmp_path, ConfigError, fault, template=template(tmp_path, text))


def test_templates_lengths_and_answers_that_do_not_fit_are_refused(tmp_path):
    model = tiny_asked_reranker(tmp_path / "model")
    prompt = template(tmp_path)
    refused(
        tmp_path,
        ConfigError,
        r"none\.txt: cannot be read \(No such file .*; expected qwen3-reranker, or a file",
        template="none.txt",
    )
    refused(
        tmp_path,
        InputError,
        "max_length 50: expected more than .* tokens of the prompt",
        template=prompt,
        max_length=50,
    )
    refused(tmp_path, ConfigError, "--yes 'perhaps': its tokens are .*; expected one", template=prompt, yes="perhaps")
    refused(tmp_path, ConfigError, "both are the token 'no'; expected two", template=prompt, yes="no")
    (model / "1_LogitScore").mkdir()
    (model / "modules.json").write_text(
        json.dumps([{"type": "a.Transformer"}, {"type": "b.LogitScore", "path": "1_LogitScore"}])
    )
    scores = model / "1_LogitScore/config.json"
    scores.write_text(json.dumps({"true_token_id": 300, "false_token_id": None}))
    refused(tmp_path, ConfigError, "its score is the logit of '.*' alone; expected one", template=prompt)
    scores.write_text(json.dumps({"true_token_id": 300, "false_token_id": 5000}))
    refused(
        tmp_path, ConfigError, "token 5000 of its answer: its tokenizer has .* tokens; expected --no", template=prompt
    )
    scores.write_text(json.dumps({"true_token_id": "yes"}))
    refused(tmp_path, CheckpointError, r"token ids \['yes', None\]; it is damaged", template=prompt)


def test_a_classifier_takes_no_answers(tmp_path):
    tiny_asked_reranker(tmp_path / "model", classifier=True)
    refused(tmp_path, ConfigError, "--yes and --no: model .* is a classifier; expected a language model", yes="yes")
