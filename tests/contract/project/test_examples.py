"""The programs of examples, with a tiny bundle: they run as their README says, and measure what they say."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from relevance.tasks import Task
from tests import ROOT
from tests.serving import running
from tests.tiny import tiny_bundle

pytest.importorskip("tantivy")

SMALL = ["--items", "2", "--queries", "12", "--depth", "10", "--threads", "1"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qi"
    tiny_bundle(folder, Task.QI)
    return folder


@pytest.fixture(scope="module")
def example():
    """The modules of examples, imported as its programs import them."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import bm25
        import lists
        import orders

        yield {"bm25": bm25, "lists": lists, "orders": orders}
    finally:
        sys.path.remove(str(ROOT / "examples"))


def run(program, *arguments, folder=None):
    command = [sys.executable, str(ROOT / "examples" / program), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def test_measure_writes_what_it_says(bundle, tmp_path):
    real = tmp_path / "dev_QI.txt"
    rows = [
        {"id": n, "language": "en", "origin_query": f"cup {n // 4}", "item_title": f"{title} {n}", "relevance": grade}
        | {"label": int(grade > 2)}
        for n, (title, grade) in enumerate([("Red cup", 3.0), ("Cup", 2.33), ("Saw", 1.0), ("Drill", 1.67)] * 8)
    ]
    real.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run("measure.py", "--bundle", bundle, "--out", tmp_path / "found.json", "--real", real, *SMALL)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    for name, queries in (("shop", 12 * 13), ("home_depot", 8)):
        study = found[name]
        assert 0 < study["queries"]["tuning"] + study["queries"]["reported"] <= queries
        assert study["ndcg_at_10"].keys() == {"bm25", "model", "blend"}
        for value, low, high in study["ndcg_at_10"].values():
            assert 0 <= low <= value <= high <= 1
        nothing, *_, everything = study["curve"]
        assert nothing["model"] == nothing["blend"] == study["ndcg_at_10"]["bm25"]
        assert everything["model"] == study["ndcg_at_10"]["model"]
    assert {row["advice"] for row in found["shop"]["languages"].values()} <= {"rerank", "unproven", "keep_order"}
    assert "re-ranked" in (tmp_path / "found.svg").read_text()
    page = (tmp_path / "found.md").read_text()
    assert "SYNTHETIC" in page
    assert page.strip() in done.stdout


def test_measure_says_what_is_missing_or_wrong(bundle, tmp_path):
    committed = (ROOT / "benchmarks/ranking/results.json").read_bytes()
    done = run("measure.py", "--bundle", bundle, "--real", tmp_path / "no", *SMALL, folder=tmp_path)
    assert "no: not there, so nothing is measured on real queries" in done.stdout
    written = tmp_path / "build/ranking"
    assert "home_depot" not in json.loads((written / "results.json").read_text())
    assert sorted(file.name for file in written.iterdir()) == ["results.json", "results.md", "results.svg"]
    assert (ROOT / "benchmarks/ranking/results.json").read_bytes() == committed
    tiny_bundle(tmp_path / "qc", Task.QC)
    done = run("measure.py", "--bundle", tmp_path / "qc", "--out", tmp_path / "b.json")
    assert (done.returncode, (tmp_path / "b.json").exists()) == (2, False)
    assert "a bundle of qc, expected one of qi" in done.stderr


def test_search_ranks_and_says_when_it_could_not(bundle):
    with running({"qi": bundle}) as process:
        url = process.wait_ready()
        done = run("search.py", "red cup", "--language", "en", "--url", url, "--budget-ms", 20_000)
        advised = run("search.py", "カップ", "--language", "ja", "--url", url)
    gone = run("search.py", "red cup", "--language", "en", "--url", url, "--budget-ms", 20_000)
    assert re.search(r"^50 found in .*\nre-ranked, 0 without a score", done.stdout), done.stderr
    scores = [float(line.split()[1]) for line in done.stdout.splitlines()[2:]]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert "keep the order of a search in ja" in advised.stdout
    assert "NOT re-ranked (unreachable" in gone.stdout
    assert [line.split()[0] for line in gone.stdout.splitlines()[2:]] == [str(n) for n in range(1, 11)]


def test_wrong_budget_is_named():
    done = run("search.py", "red cup", "--budget-ms", -5)
    assert done.returncode == 1
    assert done.stderr == "error: budget_ms -5.0: expected milliseconds above 0\n"


@pytest.mark.parametrize("query", ["red CUP", "kubek", "靴", "sapatos"])
def test_search_finds_words_and_letters_of_any_script(example, query):
    titles = ["Red ceramic cup", "Czerwony kubek", "ランニング靴 黒", "Sapatos pretos", "Nothing of it"]
    hits = example["bm25"].TitleIndex(titles).search(query, 10)
    assert query.split()[-1].lower() in titles[hits.places[0]].lower()
    assert hits.scores == sorted(hits.scores, reverse=True)
    assert example["bm25"].TitleIndex(titles).search("qqq", 10).places == []


def query_list(example, gains, missed=(), bm25=None):
    count = len(gains)
    scores = np.arange(count, 0, -1.0) if bm25 is None else np.array(bm25)
    labels = np.array(gains) > 0
    parts = [f"t{n}" for n in range(count)], scores, np.array(gains, float), labels, 0.0, np.array(missed, float)
    return example["lists"].QueryList("q", "en", *parts)


def test_blend_goes_from_the_order_of_the_search_to_that_of_the_model(example):
    each, scores = query_list(example, [0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    order = {weight: np.argsort(-example["orders"].blended(each, scores, weight, 4)).tolist() for weight in (0, 0.5, 1)}
    assert order[0] == [0, 1, 2, 3]
    assert order[1] == [3, 2, 1, 0]
    assert order[0.5][0] == 3
    first_two = np.argsort(-example["orders"].blended(each, scores, 1, 2)).tolist()
    assert first_two == [1, 0, 2, 3]  # what was not scored keeps its place


def test_relevant_items_that_were_not_found_count(example):
    found, missing = query_list(example, [1, 0]), query_list(example, [1, 0], missed=[1, 1, 1])
    judged = example["orders"].Judged([found, missing])
    assert judged.ndcg([each.bm25 for each in judged.lists]).tolist() == pytest.approx([1.0, 1 / 2.5616063], abs=1e-6)
    assert judged.mrr([each.bm25 for each in judged.lists]).tolist() == [1.0, 1.0]


def test_weight_of_the_blend_is_the_smallest_of_the_best(example):
    each, scores = query_list(example, [0, 1]), np.array([0.1, 0.9])
    judged = example["orders"].Judged([each])
    assert example["orders"].best_weight(judged, [scores], [0.0, 0.25, 0.5, 0.75, 1.0], 2) == 0.5
