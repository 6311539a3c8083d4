"""A bundle with a category prior, as the service and the scorer read it."""

import json
import pickle

import httpx
import numpy as np
import pytest

from relevance import Scorer
from relevance.errors import BundleError
from relevance.model.bundle import Bundle
from relevance.model.prior import PRIOR_FILE, CategoryPrior
from relevance.tasks import Pair
from service.batch_shape import BatchShape
from service.runtime.cuda_graphs import buckets_of
from service.runtime.providers import GpuOptions
from service.runtime.session import Engine
from tests.serving import running
from tests.spoiled import seal
from tests.tiny import tiny_bundle

PATHS = ["Home & Garden,Kitchen", "home & garden,KITCHEN", "Home & Garden,Lamps", "Sports,Running Shoes", "Unknown"]
PRIOR = CategoryPrior.of(
    [["home & garden", "kitchen"], ["home & garden", "tools"], ["sports", "running shoes"]],
    [0.9, 0.2, 0.5],
    [200, 100, 300],
    folds=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "qc"
    tiny_bundle(folder, prior=PRIOR)
    return folder


def test_the_service_gives_the_scores_of_the_scorer(folder):
    expected = Scorer.open(folder, device="cpu").score([Pair("cup", path, "en") for path in PATHS])
    with running({"qc": folder}) as process, httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        for _ in ("new texts", "texts of the cache"):
            asked = {"task": "qc", "query": "cup", "candidates": PATHS, "language": "en"}
            answer = client.post("/v1/score", json=asked).json()
            assert [each["score"] for each in answer["scores"]] == pytest.approx(expected.scores.tolist(), abs=1e-6)


def test_the_prior_is_in_the_logit(folder, tmp_path):
    tiny_bundle(tmp_path / "without")
    pairs = [Pair("cup", path) for path in PATHS]
    found = Scorer.open(folder, device="cpu").score(pairs).logits
    without = Scorer.open(tmp_path / "without", device="cpu").score(pairs).logits
    leaves = [PRIOR.features(path.casefold().split(","))[0] for path in PATHS]
    np.testing.assert_allclose(found - without, leaves, atol=1e-5)


def test_a_pickled_scorer_has_the_prior(folder):
    scorer = Scorer.open(folder, device="cpu")
    pairs = [("cup", path) for path in PATHS]
    assert pickle.loads(pickle.dumps(scorer)).score(pairs).logits.tolist() == scorer.score(pairs).logits.tolist()


def test_runs_in_buckets_read_the_prior(folder):
    shape = BatchShape(256, (64, 96), free_tokens=256)
    engine = Engine(Bundle.open(folder), device="cpu", gpu=GpuOptions(shape, cuda_graphs=True))
    graphs = engine._graph_runner()
    arrays = engine.tokenizer.collate(engine.inputs.encode([Pair("cup", path) for path in PATHS[:2]]))
    feeds = {name: arrays[name] for name in engine.bundle.manifest.input_names}
    expected = engine._run(feeds)
    graphs.capture(buckets_of(shape), feeds, 1e-4)
    np.testing.assert_allclose(graphs.run(feeds), expected, atol=1e-5)


def test_a_bundle_without_its_table_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc", prior=PRIOR)
    (tmp_path / "qc" / PRIOR_FILE).unlink()
    with pytest.raises(BundleError, match=r"prior\.json is missing"):
        Bundle.open(tmp_path / "qc")


def test_an_altered_table_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc", prior=PRIOR)
    file = tmp_path / "qc" / PRIOR_FILE
    file.write_text(file.read_text().replace("20", "21"))
    with pytest.raises(BundleError, match=r"prior\.json has sha256"):
        Bundle.open(tmp_path / "qc")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"strength": -1}, "strength"),
        ({"tilt": 1}, "tilt"),
        ({"counts": {"a": [1, 2]}}, "no entry ''"),
    ],
)
def test_a_sealed_table_that_makes_no_sense_is_named(tmp_path, change, fault):
    folder = tmp_path / "qc"
    tiny_bundle(folder, prior=PRIOR)
    (folder / PRIOR_FILE).write_text(json.dumps(json.loads((folder / PRIOR_FILE).read_text()) | change))
    seal(folder)
    with pytest.raises(BundleError, match=rf"prior\.json.*{fault}"):
        Bundle.open(folder)
