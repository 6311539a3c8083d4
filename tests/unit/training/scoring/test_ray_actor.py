"""What an actor of `relevance score --ray` does. It needs no Ray: tests/contract/training/test_score_ray.py has one."""

import numpy as np
import pytest

from relevance.errors import BundleError, MachineError
from relevance.scorer import Scorer
from relevance.tasks import Pair
from tests.tiny import tiny_bundle
from training.scoring.on_ray import _error, _ShardActor, _Task
from training.scoring.shards import score_rows
from training.scoring.work import SHARD, ShardRows, Work

ROWS = ShardRows(
    2, [4, 6, 7], [Pair("cup", "home,cups"), Pair("red shoe " * 5, "shoes", "en"), Pair("靴", "shoes", "ja")]
)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "qc"
    tiny_bundle(folder)
    return Scorer.open(folder, threads=1, device="cpu")


def called(scorer, work, bundle=None, digest=None):
    bundle = bundle or scorer._session.bundle.folder
    opening = {"threads": 1, "device": "cpu", "max_batch_tokens": None}
    actor = _ShardActor(_Task(str(bundle), digest or scorer.manifest.digest, str(work), opening))
    found = actor({"shard": np.array([ROWS.index])})
    assert found["shard"] == [ROWS.index]
    return found["scores"][0], found["error"][0]


def test_an_actor_scores_as_the_command_does(scorer, tmp_path):
    Work(tmp_path).put(ROWS)
    scores, error = called(scorer, tmp_path)
    assert error == ""
    assert np.array_equal(np.frombuffer(scores, SHARD), score_rows(scorer, ROWS, scorer.tokenize(ROWS.pairs)))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bundle": "/absent/bundle"}, BundleError, r"/absent/bundle.*\(node "),
        ({"digest": "another"}, BundleError, "differs from the one on the node of the command"),
        ({}, MachineError, r"rows-000002.json: cannot be read \(No such file"),
    ],
)
def test_what_is_missing_on_a_node_is_named_by_the_command(scorer, tmp_path, changes, kind, message):
    scores, text = called(scorer, tmp_path, **changes)
    assert scores == b""
    with pytest.raises(kind, match=message):
        raise _error(text)
