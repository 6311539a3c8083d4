"""The main job with the real encoder, by the commands a user gives: sample, train, export, verify, serve, score.

The encoder's weights come out of 4-bit blocks (training.models.base.packaged).

The demo's recipe for QC with half its rows and epochs and a third of its layers, since every `make test` runs it: what
is tested is the way from rows to scores. How good the demo's model is, benchmarks/demo measures.
"""

import httpx
import numpy as np
import pytest

from relevance.model.bundle import Bundle
from relevance.tasks import LabeledPair, Task
from tests import ROOT, commands
from tests.serving import running
from training.data.dataset import read_pairs
from training.fitting.evaluation.report import score_rows
from training.sample.shop import showcase

REAL_QC = ROOT.parent / "shared" / "data" / "analyticup_qc" / "dev_QC.txt"
SMALLER = ["training.epochs=1", "training.evaluations=1", "training.learning_rate=4e-4", "encoder.layers=2"]
SMALLER += ["training.head_learning_rate=1e-3"]


def relevance(*arguments):
    done = commands.relevance(*arguments, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e")
    sample = folder / "sample"
    relevance("sample", sample, "--scale", 0.5)
    overrides = [word for setting in SMALLER for word in ("--set", setting)]
    files = ["--train", sample / "train_QC.txt", "--dev", sample / "dev_QC.txt"]
    relevance("train", ROOT / "training" / "demo" / "qc.toml", folder / "checkpoint", *files, *overrides)
    relevance("export", folder / "checkpoint", folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with (
        running({"qc": folder / "bundle"}) as service,
        httpx.Client(base_url=service.wait_ready(), timeout=60) as client,
    ):
        yield client


def scores(client, query, candidates, language):
    body = {"task": "qc", "query": query, "candidates": candidates, "language": language}
    answer = client.post("/v1/score", json=body).raise_for_status().json()
    return [entry["score"] for entry in answer["scores"]]


def test_the_bundle_verifies_and_fits_its_checkpoint(folder):
    assert "intact" in relevance("verify", folder / "bundle")
    parity = Bundle.open(folder / "bundle").manifest.parity
    assert parity.max_logit_difference <= 1e-3
    assert len(parity.languages) == 13


def test_the_model_beats_always_yes_and_chance_on_the_synthetic_dev_set(folder):
    metrics = Bundle.open(folder / "bundle").manifest.metrics
    assert metrics.seen.auc.low > 0.6
    assert metrics.unseen.auc.low > 0.5
    assert metrics.all.f1.value > metrics.all.always_yes_f1.value


@pytest.mark.parametrize("text", ["血圧計", "فساتين"])
def test_the_right_sample_category_comes_first(client, text):
    (entry,) = [entry for entry in showcase() if entry.query == text]
    found = scores(client, entry.query, list(entry.candidates), entry.language)
    assert entry.candidates[found.index(max(found))] == entry.category_path, found


def test_half_of_the_showcase_has_the_right_category_first(client):
    entries = showcase()
    first = 0
    for entry in entries:
        found = scores(client, entry.query, list(entry.candidates), entry.language)
        first += entry.candidates[found.index(max(found))] == entry.category_path
    assert first >= len(entries) / 2  # by chance a tenth


def test_most_showcase_queries_rank_the_right_category_among_the_first_two_of_ten(client):
    ranks = []
    for entry in showcase():
        found = np.array(scores(client, entry.query, list(entry.candidates), entry.language))
        ranks.append(int((found > found[entry.candidates.index(entry.category_path)]).sum()) + 1)
    assert sum(rank <= 2 for rank in ranks) >= 0.5 * len(ranks), ranks  # by chance it would be a fifth of them


def through_http(client, rows: list[LabeledPair]) -> list[float]:
    pairs = [{"query": row.pair.query, "candidate": row.pair.candidate, "language": row.pair.language} for row in rows]
    answer = client.post("/v1/score", json={"task": "qc", "pairs": pairs}).raise_for_status().json()
    return [entry["score"] for entry in answer["scores"]]


def some_of_each_language(rows, count):
    languages = sorted({row.pair.language for row in rows})
    return [row for code in languages for row in [r for r in rows if r.pair.language == code][:count]]


def test_http_scores_equal_the_checkpoints_own(client, folder):
    rows = some_of_each_language(read_pairs(folder / "sample" / "test_QC.txt", Task.QC).rows, 10)
    _, expected = score_rows(folder / "checkpoint", rows)
    np.testing.assert_allclose(through_http(client, rows), expected, atol=1e-3)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_QC.is_file(), reason=f"no {REAL_QC}: the real data is not beside the project")
def test_http_scores_equal_the_checkpoints_own_on_200_real_pairs_in_ten_languages(client, folder):
    rows = some_of_each_language(read_pairs(REAL_QC, Task.QC).rows, 20)
    assert len(rows) == 200
    assert len({row.pair.language for row in rows}) == 10
    _, expected = score_rows(folder / "checkpoint", rows)
    np.testing.assert_allclose(through_http(client, rows), expected, atol=1e-3)
