"""`relevance ask` against a real language model with random weights behind a real HTTP endpoint."""

import json
import logging
import warnings

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from export.exporting import DEFAULT_LIMITS, export_bundle
from relevance import Scorer
from relevance.errors import ConfigError, InputError
from relevance.storage.outputs import STANDARD
from relevance.tasks import Task
from tests.commands import relevance
from tests.lm_server import lm_server
from tests.models import tiny_config, tiny_reranker, tiny_tokenizer
from tests.serving import running
from training.data.teacher import teacher_logits
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.importing.checkpoint import import_reranker
from training.importing.options import ImportOptions
from training.scoring.asking.run import ask_file
from training.scoring.options import AskOptions, ScoreOptions

WORDS = ("red", "shoes", "cups", "家", "garden")
PROMPT = "Query: {query}\nItem: {candidate}\nAnswer:"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a random Qwen2 whose logits differ widely, and its tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("lm")
    tiny_tokenizer(folder, pairs="", kind="tiktoken")
    torch.manual_seed(0)
    config = tiny_config("qwen2")
    config.initializer_range = 0.3
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model):
    with lm_server(model) as endpoint:
        yield endpoint


@pytest.fixture
def file(tmp_path):
    """Twelve rows, two of them the same pair."""
    rows = [
        {"id": f"r{n}", "origin_query": f"{WORDS[n % 5]} {n % 11}", "item_title": WORDS[n % 3 if n < 11 else 0]}
        for n in range(12)
    ]
    rows[11] |= {"origin_query": rows[0]["origin_query"]}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "rows.jsonl"


def options(server, **more):
    given = {"model": "tiny", "url": server.url, "text": PROMPT, "yes": "y", "no": "n", "top_logprobs": 1000}
    return AskOptions(**(given | {"attempts": 1} | more))


def ask(server, file, out, cache=None, **more):
    return ask_file(options(server, **more), Task.QI, file, out, ScoreOptions(), cache)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_a_re_ranker_behind_an_endpoint_scores_a_file(tmp_path):
    import_reranker(str(tiny_reranker(tmp_path / "model")), tmp_path / "checkpoint", ImportOptions())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        limits = DEFAULT_LIMITS["fp32"]
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", "fp32", limits, overwrite=False)
    pairs = [(f"red  {word}", f"{word}\n cups") for word in WORDS]
    lines = (json.dumps({"query": query, "document": document}) + "\n" for query, document in pairs)
    (tmp_path / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    with running({"rerank": tmp_path / "bundle"}) as service:
        asking = AskOptions(model="model", url=f"{service.wait_ready()}/v1", api="rerank", attempts=1)
        report = ask_file(asking, Task.RERANK, tmp_path / "rows.jsonl", tmp_path / "out.jsonl", ScoreOptions())
        other = asking.model_copy(update={"url": f"{asking.url}/none"})
        with pytest.raises(ConfigError, match=r"HTTP 404 .*; expected an OpenAI-compatible endpoint at .*/none/rerank"):
            ask_file(other, Task.RERANK, tmp_path / "rows.jsonl", tmp_path / "none.jsonl", ScoreOptions())
    assert report.cost.requests == len(pairs)
    scored = Scorer.open(tmp_path / "bundle").score(pairs).scores
    assert np.ptp(scored) > 1e-3
    np.testing.assert_allclose([row["score"] for row in rows_of(tmp_path / "out.jsonl")], scored, atol=1e-6)


def test_a_re_ranker_takes_no_prompt():
    with pytest.raises(ValueError, match="text and steps: a re-ranker is asked without a prompt"):
        AskOptions(model="m", url="http://127.0.0.1:1/v1", api="rerank", steps=True)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(folder, row):
    """Return P(y) / (P(y) + P(n)) by the model itself, all its tokens for either letter taken together."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = PROMPT.replace("{query}", row["origin_query"]).replace("{candidate}", row["item_title"])
    with torch.inference_mode():
        p = torch.softmax(network(torch.tensor([tokenizer.encode(text).ids])).logits[0, -1].double(), dim=-1)
    words = {}
    for token in range(tokenizer.get_vocab_size()):
        words.setdefault(tokenizer.decode([token], skip_special_tokens=False), token)
    yes, no = (sum(float(p[i]) for w, i in words.items() if w.strip().casefold() == side) for side in "yn")
    return yes / (yes + no)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_scores_are_the_softmax_over_both_answers_and_teach(model, server, file, tmp_path, api):
    out = tmp_path / "scored.jsonl"
    report = ask(server, file, out, api=api)
    rows = rows_of(out)
    np.testing.assert_allclose([row["score"] for row in rows], [expected(model, row) for row in rows], atol=1e-5)
    assert [row["label_predicted"] for row in rows] == [int(row["score"] >= 0.5) for row in rows]
    assert len({row["score"] for row in rows}) > 8
    assert (report.rows, report.cost.requests, report.undecided, report.device) == (12, 11, 0, "endpoint")
    assert report.cost.prompt_tokens > 11
    logits = teacher_logits(out, [row["id"] for row in rows], tmp_path / "lacking")
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(logits))), [row["score"] for row in rows], atol=1e-9)


def test_command_stops_at_its_budget_and_goes_on_without_asking_twice(server, file, tmp_path):
    out = tmp_path / "scored.jsonl"
    arguments = ["ask", f"tiny@{server.url}", file, out, "--task", "qi", "--text", "{query} {candidate}?"]
    arguments += ["--yes", "y", "--no", "n", "--top-logprobs", "1000", "--attempts", "1", "--concurrency", "1"]
    before = len(server.asked())
    stopped = relevance(*arguments, "--budget-requests", "4")
    assert stopped.returncode == 5, stopped.stderr
    assert "the budget of 4 requests is spent" in stopped.stderr
    assert f"4 answers are kept in {out}.answers.sqlite: the same command goes on from there" in stopped.stderr
    assert not out.exists()
    done = relevance(*arguments)
    assert done.returncode == 0, done.stderr
    assert "7 requests" in done.stdout
    assert "4 pairs known before, 0 undecided" in done.stdout
    asked = server.asked()[before:]
    assert len(asked) == len(set(asked)) == 11
    assert len(rows_of(out)) == 12


def test_known_answers_need_no_server(server, file, tmp_path):
    cache = tmp_path / "cache.sqlite"
    first = ask(server, file, tmp_path / "a.jsonl", cache)
    again = ask(server, file, tmp_path / "b.jsonl", cache, url="http://127.0.0.1:9/v1")
    assert (first.cost.requests, again.cost.requests, again.known) == (11, 0, 11)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    with pytest.raises(StoppedError, match="cannot be reached"):  # another prompt is another question
        ask(server, file, tmp_path / "c.jsonl", cache, url="http://127.0.0.1:9/v1", text="{query}={candidate}")


def test_budget_of_tokens_holds_too(server, file, tmp_path):
    with pytest.raises(BudgetSpentError, match="the budget of 100 tokens is spent"):
        ask(server, file, tmp_path / "out.jsonl", budget_tokens=100, concurrency=1)


def test_pairs_without_either_answer_are_undecided_and_many_are_an_error(server, file, tmp_path, caplog):
    report = ask(server, file, tmp_path / "out.jsonl", yes="never", no="said")
    assert report.undecided == 12
    assert {row["score"] for row in rows_of(tmp_path / "out.jsonl")} == {0.5}
    assert "12 pairs were answered with neither 'never' nor 'said'" in caplog.text
    more = [row | {"id": f"{row['id']}-{n}", "item_title": f"cup {n}"} for n in range(2) for row in rows_of(file)]
    file.write_text("".join(json.dumps(row) + "\n" for row in more), encoding="utf-8")
    with pytest.raises(ConfigError, match="most of 20 pairs begin with neither 'never' nor 'said'"):
        ask(server, file, tmp_path / "more.jsonl", yes="never", no="said")


def test_undecided_pairs_of_an_interrupted_run_count_after_it_goes_on(server, file, tmp_path, caplog):
    """Four rows a shard: the first run ends in its third shard, the second one asks about the rest alone."""
    shards = ScoreOptions(shard_rows=4)
    caplog.set_level(logging.INFO)
    asked = options(server, yes="never", no="said", budget_requests=9, concurrency=1)
    with pytest.raises(BudgetSpentError):
        ask_file(asked, Task.QI, file, tmp_path / "out.jsonl", shards)
    assert "finished shards are kept" in caplog.text
    report = ask_file(options(server, yes="never", no="said"), Task.QI, file, tmp_path / "out.jsonl", shards)
    assert (report.rows, report.resumed, report.undecided) == (12, 8, 12)
    assert "12 pairs were answered with neither" in caplog.text


def test_nothing_is_said_to_be_kept_of_scores_for_standard_output(server, file, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    asked = options(server, budget_requests=9, concurrency=1)
    with pytest.raises(BudgetSpentError, match=r"9 answers are kept in standard-output\.answers\.sqlite"):
        ask_file(asked, Task.QI, file, STANDARD, ScoreOptions(shard_rows=4))
    assert "shards are kept" not in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "standard-output.answers.sqlite"}


def test_server_without_log_probabilities_is_named(server, file, tmp_path):
    with pytest.raises(ConfigError, match="no log-probabilities"):
        ask(server, file, tmp_path / "out.jsonl", model="silent")


def test_wrong_inputs_are_named(server, file, tmp_path):
    with pytest.raises(ConfigError, match="HTTP 404"):
        ask(server, file, tmp_path / "out.jsonl", model="large")
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        ask(server, tmp_path / "nothing.jsonl", tmp_path / "out.jsonl")
    for given, message in (
        ("tiny", "model 'tiny': expected MODEL@URL"),
        (f"tiny@{server.url}?key=1", "holds a query or fragment"),
    ):
        found = relevance("ask", given, file, tmp_path / "out.jsonl", "--task", "qi")
        assert found.returncode == 2
        assert message in found.stderr
    for option, message in (
        (("--text", "{query}"), "expected {query} and {candidate}, once each"),
        (("--yes", "No"), "both answers are 'No'"),
        (("--budget-money", "2"), "no prices are set"),
    ):
        found = relevance("ask", f"tiny@{server.url}", file, tmp_path / "out.jsonl", "--task", "qi", *option)
        assert (found.returncode, message in found.stderr) == (2, True), found.stderr
