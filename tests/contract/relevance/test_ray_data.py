"""`BundleScorer` in a real Ray: actors of Ray Data score the batches."""

import numpy as np
import pytest

from relevance.scorer import Scorer
from relevance.tasks import Pair
from tests.rays import local_ray, needs_ray
from tests.tiny import tiny_bundle

pytestmark = [needs_ray, pytest.mark.filterwarnings("default")]  # Ray warns of itself


@pytest.fixture(scope="module")
def ray():
    with local_ray(cpus=2) as started:
        yield started


def test_actors_of_ray_data_score_every_row_once(ray, tmp_path):
    from relevance.ray import BundleScorer

    tiny_bundle(tmp_path / "qc")
    given = [{"n": n, "origin_query": f"red shoe {n} " * (n % 4 + 1), "category_path": "shoes"} for n in range(500)]
    scored = ray.data.from_items(given, override_num_blocks=8).map_batches(
        BundleScorer,
        fn_constructor_args=[str(tmp_path / "qc")],
        fn_constructor_kwargs={"device": "cpu"},
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    found = sorted(scored.take_all(), key=lambda row: row["n"])
    assert [row["n"] for row in found] == list(range(500))
    wanted = Scorer.open(tmp_path / "qc", threads=1, device="cpu").score(
        Pair(row["origin_query"], row["category_path"]) for row in given
    )
    assert np.allclose([row["score"] for row in found], wanted.scores, atol=1e-6)
    assert [row["label_predicted"] for row in found] == wanted.labels.tolist()
