"""Bundles of safetensors for vLLM, read by transformers. vLLM itself was not at hand: it needs a GPU build."""

import json
import shlex
import shutil
from dataclasses import replace

import jinja2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from export.checkpoint import Checkpoint
from export.verifying import verify_bundle
from export.vllm.folder import LIMITS, README_FILE, TEMPLATE_FILE, export_safetensors, score_template
from relevance import Scorer
from relevance.errors import BundleError, CheckpointError, ConfigError, ParityError
from relevance.model.bundle import MANIFEST_FILE, Bundle
from relevance.model.card import CARD_FILE, HEAD_FILE
from relevance.tasks import Pair
from relevance.text.prompt import Prompt
from tests.commands import relevance
from tests.models import CLASSIFIERS, tiny_asked_reranker, tiny_language_model, tiny_reranker
from tests.tiny import tiny_bundle
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions

PAIRS = [Pair("red  shoes?", "zapatos rojos"), Pair("cups", "shoes " * 300), Pair("<s> 青い", "<|im_end|>\n cups!")]
PROMPT = "Query: {{ query }}\nItem: {{ document }}\nAnswer:"


def checkpoint(folder, kind, bias=(0.7, -0.4)):
    """An imported model: `qwen3` and `llama` answer yes or no; of an XLM-R, the number of its labels follows."""
    family, _, labels = kind.partition("/")
    if family == "qwen3":
        model, options = tiny_asked_reranker(folder / "model"), ImportOptions(template="qwen3-reranker", max_length=256)
    elif family == "llama":
        model = tiny_language_model(folder / "model", "llama")
        (folder / "prompt.txt").write_text("Query: {query}\nItem: {candidate}\nAnswer:")
        options = ImportOptions(template=str(folder / "prompt.txt"), max_length=96, yes=" yes", no=" no")
    else:
        config = {"problem_type": "multi_label_classification"} if labels == "3" else {}
        model = tiny_reranker(folder / "model", family, int(labels or 1), **config)
        options = ImportOptions(label="1" if int(labels or 1) > 1 else None)
    import_reranker(str(model), folder / "checkpoint", options)
    if family in ("qwen3", "llama"):
        head = load_file(folder / "checkpoint" / HEAD_FILE)
        save_file(head | {"answers.bias": torch.tensor(bias)}, folder / "checkpoint" / HEAD_FILE)
    return folder / "checkpoint"


def export(source, out, precision="fp32", **limits):
    return export_safetensors(source, out, precision, replace(LIMITS[precision], **limits), overwrite=False)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The checkpoint of a language model that answers yes or no, and its bundle."""
    folder = tmp_path_factory.mktemp("asked")
    export(checkpoint(folder, "qwen3"), folder / "bundle")
    return folder / "checkpoint", folder / "bundle"


@pytest.mark.parametrize("kind", [*CLASSIFIERS, "xlm-roberta/2", "xlm-roberta/3"])
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_transformers_loads_the_folder_and_gives_the_checkpoints_logits(tmp_path, kind):
    source = checkpoint(tmp_path, kind)
    manifest = export(source, tmp_path / "bundle")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bundle").eval()
    config = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert config["architectures"] == [type(model).__name__]
    assert type(model).__name__.endswith("ForSequenceClassification")
    assert model.config.num_labels == 1
    opened = Checkpoint.open(source)
    expected = opened.logits(opened.inputs.encode(PAIRS))
    found = []
    for pair in Bundle.open(tmp_path / "bundle", "safetensors").inputs().encode(PAIRS):  # one by one: no padding
        with torch.inference_mode():
            found.append(float(model(input_ids=torch.tensor([pair.input_ids])).logits[0, 0]))
    assert np.ptp(expected) > 0.1
    bias = 1.1 if kind in ("qwen3", "llama") else 0.0  # moved into the calibration
    np.testing.assert_allclose(np.array(found) + bias, expected, atol=1e-4)
    np.testing.assert_allclose(manifest.scores(found), opened.card.scores(expected), atol=1e-5)
    assert verify_bundle(tmp_path / "bundle").worst < 1e-4


def test_the_folder_says_how_it_is_served(asked):
    manifest = Bundle.open(asked[1], "safetensors").manifest
    line = next(line for line in (asked[1] / README_FILE).read_text().splitlines() if line.startswith("vllm serve"))
    words = shlex.split(line)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--runner": "pooling",
        "--served-model-name": manifest.name,
        "--max-model-len": "256",
        "--dtype": "float32",
        "--chat-template": f"FOLDER/{TEMPLATE_FILE}",
    }
    assert (manifest.kind, manifest.opset, manifest.precision) == ("safetensors", 0, "fp32")
    assert manifest.golden_tolerance == 0.02
    assert {README_FILE, TEMPLATE_FILE, "config.json", "model.safetensors", "tokenizer.json"} < manifest.sha256.keys()


def test_the_template_makes_the_prompt_that_the_model_was_trained_with(asked):
    bundle = Bundle.open(asked[1], "safetensors")
    inputs, template = bundle.inputs(), jinja2.Template((asked[1] / TEMPLATE_FILE).read_text())
    pair = Pair("red shoes", "zapatos rojos")
    messages = [{"role": "query", "content": pair.query}, {"role": "document", "content": pair.candidate}]
    ids = AutoTokenizer.from_pretrained(asked[1])(template.render(messages=messages))["input_ids"]
    assert ids == inputs.encode([pair])[0].input_ids


@pytest.mark.parametrize("text", ['\\ "{query}"\n{candidate} {{ }}\t\'', "問 {query} 😀 {candidate} \x07%}"])
def test_a_template_holds_any_prompt(text):
    messages = [{"role": "query", "content": "{q}"}, {"role": "document", "content": "d\n"}]
    made = jinja2.Template(score_template(Prompt(text=text))).render(messages=messages)
    assert made == text.replace("{query}", "{q}").replace("{candidate}", "d\n")


def test_sixteen_bits_are_written_and_compared_in_sixteen_bits(tmp_path, asked):
    manifest = export(asked[0], tmp_path / "bundle", "bf16", max_f1_difference=1.0)
    weights = load_file(tmp_path / "bundle" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert 1e-4 < manifest.parity.max_logit_difference < 0.5
    assert "--dtype bfloat16" in (tmp_path / "bundle" / README_FILE).read_text()
    assert verify_bundle(tmp_path / "bundle").worst == 0


def test_a_folder_that_differs_from_its_checkpoint_is_not_written(tmp_path, asked):
    with pytest.raises(ParityError, match=r"expected at most 0.0 \(--max-logit-difference\)"):
        export(asked[0], tmp_path / "bundle", "bf16", max_logit_difference=0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", README_FILE, MANIFEST_FILE])
def test_an_altered_file_is_found(tmp_path, asked, name):
    folder = shutil.copytree(asked[1], tmp_path / "bundle")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(BundleError, match=name if name != MANIFEST_FILE else "manifest"):
        verify_bundle(folder)


def test_weights_that_the_manifest_does_not_know_are_found(tmp_path, asked):
    folder = shutil.copytree(asked[1], tmp_path / "bundle")
    (folder / ".gitattributes").write_text("")  # as a hub leaves it
    verify_bundle(folder)
    shutil.copyfile(folder / "model.safetensors", folder / "more.safetensors")
    with pytest.raises(BundleError, match=r"more\.safetensors is there, and the manifest has no sha256 of it"):
        verify_bundle(folder)


def test_each_kind_is_refused_where_the_other_is_expected(tmp_path, asked):
    with pytest.raises(BundleError, match=r"its weights are safetensors, for vLLM: `relevance score --endpoint` asks"):
        Scorer.open(asked[1])
    tiny_bundle(tmp_path / "onnx")
    with pytest.raises(BundleError, match="it has an ONNX graph; expected a bundle of `relevance export --kind safet"):
        Bundle.open(tmp_path / "onnx", "safetensors")


def test_models_that_are_no_classifier_of_one_output_are_refused(tmp_path):
    labels = tiny_reranker(tmp_path / "labels", "xlm-roberta", 3)
    import_reranker(str(labels), tmp_path / "softmax", ImportOptions(label="1"))
    import_reranker(str(tiny_reranker(tmp_path / "bert")), tmp_path / "typed", ImportOptions())
    faults = {
        "softmax": "its score is the softmax share of one of 3 labels",
        "typed": "its tokenizer gives the candidate another token type",
        "mean": "its head is 'mean', which no classifier of transformers or vLLM has",
    }
    mean = shutil.copytree(tmp_path / "softmax", tmp_path / "mean")
    card = json.loads((mean / CARD_FILE).read_text())
    card["head"]["kind"] = "mean"
    (mean / CARD_FILE).write_text(json.dumps(card))
    head = {"out.weight": torch.ones(32), "skip.weight": torch.ones(0), "out.bias": torch.tensor(0.0)}
    save_file(head, mean / HEAD_FILE)
    for name, fault in faults.items():
        with pytest.raises(CheckpointError, match=rf"{fault}.*expected an ONNX bundle of it \(--kind onnx\)"):
            export(tmp_path / name, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_command_exports_and_says_how_to_serve(tmp_path, asked):
    done = relevance("export", asked[0], tmp_path / "bundle", "--kind", "safetensors")
    assert done.returncode == 0, done.stderr
    assert f"vllm serve {tmp_path / 'bundle'} --runner pooling --served-model-name" in done.stdout
    shown = relevance("verify", tmp_path / "bundle")
    assert "intact" in shown.stdout
    again = relevance("export", asked[0], tmp_path / "bundle", "--kind", "safetensors")
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--kind", "safetensors", "--precision", "int8"], "--precision int8: expected one of fp32, fp16, bf16"),
        (["--precision", "bf16"], "--precision bf16: expected one of fp32, fp16, int8, or --kind safetensors"),
        (["--kind", "safetensors", "--without-prior"], "no model of --kind safetensors reads one"),
    ],
)
def test_options_that_do_not_fit_the_kind_are_refused(tmp_path, asked, options, fault):
    done = relevance("export", asked[0], tmp_path / "bundle", *options)
    assert done.returncode == ConfigError.exit_code
    assert fault in done.stderr
    assert not (tmp_path / "bundle").exists()
