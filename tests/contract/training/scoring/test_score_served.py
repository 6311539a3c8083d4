"""`relevance score --endpoint` against a process in vLLM's request and response shapes, over transformers.

It is our own stand-in (tests/vllm_server.py), with the shapes that vLLM documents, and not vLLM.
"""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from export.checkpoint import Checkpoint
from export.vllm.folder import LIMITS, export_safetensors
from relevance.errors import BundleError, ConfigError
from relevance.tasks import Pair
from tests.commands import relevance
from tests.models import tiny_asked_reranker, tiny_reranker
from tests.tiny import tiny_bundle
from tests.vllm_server import vllm_server
from training.data.teacher import teacher_logits
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions
from training.scoring.options import ScoreOptions, ServedOptions
from training.scoring.served import score_served

LENGTH = 256
QUERIES = ("red  shoes?", "cups", "<|im_end|> 青い 靴")
DOCUMENTS = ("zapatos rojos", "home & garden > cups,\n FREE SHIPPING!", "shoes " * 300, "<s> 青い 靴", "\n cups!\n")
ROWS = [
    {"id": f"r{n}", "query": QUERIES[n % 3], "document": DOCUMENTS[n % 5], "language": ("en", "ja")[n % 2]}
    for n in range(15)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint of a language model with a calibration and thresholds of its own, its bundle, and other models."""
    folder = tmp_path_factory.mktemp("served")
    options = ImportOptions(template="qwen3-reranker", max_length=LENGTH, name="asked")
    import_reranker(str(tiny_asked_reranker(folder / "model")), folder / "checkpoint", options)
    card = json.loads((folder / "checkpoint" / "card.json").read_text())
    offset = {"offset": 0.9, "own_offset": 0.9, "rows": 9, "source": "here"}
    card["calibration"] = {"scale": 0.7, "offset": -0.2, "by_language": {"ja": offset}}
    card["language_thresholds"] = {"ja": 0.8}
    (folder / "checkpoint" / "card.json").write_text(json.dumps(card))
    import_reranker(str(tiny_reranker(folder / "xlm", "xlm-roberta")), folder / "stock", ImportOptions(name="stock"))
    for name, out in (("checkpoint", "bundle"), ("stock", "other")):
        export_safetensors(folder / name, folder / out, "fp32", LIMITS["fp32"], overwrite=False)
    weights = load_file(shutil.copytree(folder / "bundle", folder / "changed") / "model.safetensors")
    weights["score.weight"] *= 1.1
    save_file(weights, folder / "changed" / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def server(folder):
    asked, other = ({"folder": str(folder / name), "max_model_len": LENGTH} for name in ("bundle", "other"))
    changed = {"folder": str(folder / "changed"), "max_model_len": LENGTH}
    short, old = asked | {"max_model_len": LENGTH - 1}, asked | {"knows_use_activation": False}
    with vllm_server(asked=asked, changed=changed, stock=other, short=short, old=old) as endpoint:
        yield endpoint


@pytest.fixture
def file(tmp_path, server):
    server.plan()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return tmp_path / "rows.jsonl"


def score(folder, server, file, out="scored.jsonl", name="bundle", shard_rows=4096, **more):
    serving = ServedOptions(**({"url": server.url, "attempts": 1, "request_pairs": 4} | more))
    return score_served(folder / name, serving, file, file.with_name(out), ScoreOptions(shard_rows=shard_rows))


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(checkpoint):
    """The scores and labels of the checkpoint itself, by torch, with its own card."""
    opened, pairs = Checkpoint.open(checkpoint), [Pair(row["query"], row["document"], row["language"]) for row in ROWS]
    tokens, languages = opened.inputs.encode(pairs), [pair.language for pair in pairs]
    scores = opened.card.scores(opened.logits(tokens), languages)
    return scores, opened.card.labels(scores, languages), [pair.truncated for pair in tokens]


@pytest.mark.parametrize(("name", "checkpoint"), [("bundle", "checkpoint"), ("other", "stock")])
def test_scores_labels_and_cuts_are_those_of_the_checkpoint(folder, server, file, name, checkpoint):
    report = score(folder, server, file, name=name)
    scores, labels, truncated = expected(folder / checkpoint)
    rows = rows_of(file.with_name("scored.jsonl"))
    np.testing.assert_allclose([row["score"] for row in rows], scores, atol=1e-5)
    assert np.ptp(scores) > 0.1
    assert [row["label_predicted"] for row in rows] == labels.tolist()
    assert [row["truncated"] for row in rows] == truncated
    assert any(truncated)
    assert (report.rows, report.device, report.truncated) == (15, "endpoint", sum(truncated))
    assert report.cost.requests == len(server.log()["requests"])
    assert report.cost.prompt_tokens == sum(
        len(ids) for each in server.log()["requests"] for ids in each["body"]["input"]
    )


def test_command_scores_by_token_ids_without_the_weights_and_teaches(folder, server, file):
    bundle = shutil.copytree(folder / "bundle", file.with_name("copy"), ignore=shutil.ignore_patterns("*.safetensors"))
    out = file.with_name("scored.jsonl")
    done = relevance("score", bundle, file, out, "--endpoint", f"{server.url}/v1", "--request-pairs", 4)
    assert done.returncode == 0, done.stderr
    assert "15 RERANK pairs scored by" in done.stdout
    assert " requests, " in done.stdout
    bodies = [each["body"] for each in server.log()["requests"]]
    assert {(body["model"], body["use_activation"]) for body in bodies} == {("asked", False)}
    assert all(isinstance(token, int) for body in bodies for ids in body["input"] for token in ids)
    logits = teacher_logits(out, [row["id"] for row in ROWS], file.with_name("lacking"))
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(logits))), expected(folder / "checkpoint")[0], atol=1e-5)


def test_requests_are_under_way_at_once(folder, server, file):
    server.plan(*[{"seconds": 0.3}] * 30)
    score(folder, server, file, request_pairs=1, concurrency=3)
    assert 2 <= server.log()["most_active"] <= 3


def test_an_interrupted_run_goes_on_with_the_shards_that_are_missing(folder, server, file):
    score(folder, server, file, "alone.jsonl", shard_rows=4)
    golden = len(server.log()["requests"]) - 4
    server.plan(*[{}] * (golden + 2), {"status": 503})
    with pytest.raises(StoppedError, match=r"vLLM 'asked' at .*: HTTP 503 .*the engine is overloaded"):
        score(folder, server, file, shard_rows=4)
    assert not file.with_name("scored.jsonl").exists()
    server.plan()
    report = score(folder, server, file, shard_rows=4)
    assert report.resumed == 8
    assert len(server.log()["requests"]) == golden + 2
    assert file.with_name("scored.jsonl").read_bytes() == file.with_name("alone.jsonl").read_bytes()


def test_a_busy_server_is_asked_again(folder, server, file):
    server.plan({"status": 503}, {}, {"status": 500})
    report = score(folder, server, file, attempts=3)
    np.testing.assert_allclose(
        [row["score"] for row in rows_of(file.with_name("scored.jsonl"))], expected(folder / "checkpoint")[0], atol=1e-5
    )
    assert report.cost.requests == len(server.log()["requests"])


def test_a_budget_ends_the_run(folder, server, file):
    golden = 8
    with pytest.raises(BudgetSpentError, match=f"the budget of {golden} requests is spent"):
        score(folder, server, file, request_pairs=16, budget_requests=golden, shard_rows=1)
    with pytest.raises(BudgetSpentError, match="the budget of 100 tokens is spent"):
        score(folder, server, file, budget_tokens=100)


@pytest.mark.parametrize(
    ("more", "error", "fault"),
    [
        (
            {"model": "changed"},
            ConfigError,
            r"vLLM 'changed' at http.*: bundle .*: golden pair \d+ scored .*; expected vLLM as the README",
        ),
        (
            {"model": "none"},
            ConfigError,
            r"HTTP 404 \(.*The model `none` does not exist.*at .*/classify that has the m",
        ),
        ({"model": "old"}, ConfigError, r"golden pair \d+ scored .*\(its answers are scores, not logits: use_act"),
        (
            {"model": "short"},
            ConfigError,
            rf"HTTP 400 .*context length is 255 tokens.* has {LENGTH} tokens, .*len {LENGTH} ",
        ),
        ({"url": "http://127.0.0.1:9"}, StoppedError, "vLLM 'asked' at http://127.0.0.1:9: cannot be reached"),
    ],
)
def test_a_server_that_is_not_the_bundles_is_refused_before_the_first_pair(folder, server, file, more, error, fault):
    with pytest.raises(error, match=fault):
        score(folder, server, file, **more)
    assert len(server.log()["requests"]) <= 20
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("step", "error", "fault"),
    [
        (
            {"left_out": 1},
            ConfigError,
            r"it answers .* to 4 inputs; expected a classifier's outputs \(data, index, probs",
        ),
        ({"classes": 2}, ConfigError, "4 results with 8 outputs for 4 inputs; expected one each"),
        ({"logit": float("nan")}, StoppedError, "1 of 4 logits are not finite"),
        ({"reply": {"object": "list"}}, ConfigError, r"it answers \{'object': 'list'.* to 4 inputs"),
        ({"reply": [1, 2]}, ConfigError, r"it answers \[1, 2\] to 4 inputs"),
        ({"status": 400}, ConfigError, "HTTP 400 .*the engine is overloaded.*; the longest of 4 inputs has"),
        ({"seconds": 5}, StoppedError, "the connection broke or timed out"),
    ],
)
def test_an_answer_that_is_none_ends_the_run_and_is_named(folder, server, file, step, error, fault):
    score(folder, server, file, "alone.jsonl")
    golden = len(server.log()["requests"]) - 4
    server.plan(*[{}] * golden, step)
    with pytest.raises(error, match=rf"vLLM 'asked' at {server.url}.*{fault}"):
        score(folder, server, file, concurrency=1, timeout_seconds=2.0)
    assert not file.with_name("scored.jsonl").exists()


def test_a_bundle_of_onnx_has_no_vllm(folder, server, file):
    tiny_bundle(file.with_name("onnx"))
    with pytest.raises(BundleError, match="it has an ONNX graph"):
        score(file.parent, server, file, name="onnx")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--request-pairs", 4], "options of requests and budgets: expected with --endpoint only"),
        (["--endpoint", "http://127.0.0.1:9", "--threads", 2], "--max-batch-tokens and --ray: expected without --end"),
        (["--endpoint", "127.0.0.1:9"], "is no URL; expected one as in http://127.0.0.1:8000/v1"),
        ([], "its weights are safetensors, for vLLM: `relevance score --endpoint` asks one that serves them"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, file, options, fault):
    done = relevance("score", folder / "bundle", file, file.with_name("out.jsonl"), *options)
    assert done.returncode in (ConfigError.exit_code, BundleError.exit_code), done.stderr
    assert fault in done.stderr
