"""What an actor of `relevance score --ray` does, without Ray (with it: contract/training/scoring/test_score_ray.py)."""

import numpy as np
import pytest

from relevance.errors import BundleError, MachineError
from relevance.scorer import Scorer
from tests.tiny import tiny_bundle
from training.data.pair_blocks import PairBlock
from training.scoring.ray.runner import MOST_ATTEMPTS, _error, _ShardActor, _Task, attempt
from training.scoring.shards import score_rows
from training.scoring.staged import StagedRows, staging
from training.scoring.work import SHARD

QUERIES, CANDIDATES = ["cup", "red shoe " * 5, "靴"], ["home,cups", "shoes", "shoes"]
BLOCK = PairBlock([4, 6, 7], [5, 7, 8], QUERIES, CANDIDATES, ["unk", "en", "ja"], [{}, {}, {}])


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "qc"
    tiny_bundle(folder)
    return Scorer.open(folder, threads=1, device="cpu")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.arrow"
    with staging(path, 3, with_records=False) as made:
        made.add(BLOCK)
    return path


@pytest.mark.parametrize(("ended", "fails"), [(0, False), (MOST_ATTEMPTS - 1, False), (MOST_ATTEMPTS, True)])
def test_a_shard_that_ended_its_actor_too_often_is_named(scorer, rows, ended, fails):
    file = rows.with_name("attempts-000000")
    file.write_bytes(b"x" * ended)
    scores, error = called(scorer, rows)
    assert (scores == b"") == fails
    assert file.exists() == fails
    if fails:
        with pytest.raises(
            MachineError, match=r"shard 0: 4 actors ended, each while it scored rows 5 to 8 of the input"
        ):
            raise _error(error)


def test_an_attempt_whose_process_ends_counts(tmp_path, rows):
    shard, file = StagedRows(rows).shard(0), tmp_path / "attempts"
    for number in range(MOST_ATTEMPTS):
        lasting = attempt(file, shard)
        lasting.__enter__()  # never left, as in a process that is killed
        assert file.stat().st_size == number + 1
    with pytest.raises(MachineError, match="4 actors ended"), attempt(file, shard):
        raise AssertionError


def called(scorer, rows, bundle=None, digest=None):
    bundle = bundle or scorer._model.bundle.folder
    opening = {"threads": 1, "device": "cpu", "max_batch_tokens": None}
    actor = _ShardActor(_Task(str(bundle), digest or scorer.manifest.digest, str(rows), opening))
    found = actor({"shard": np.array([0])})
    assert found["shard"] == [0]
    return found["scores"][0], found["error"][0]


def test_an_actor_scores_as_the_command_does(scorer, rows):
    scores, error = called(scorer, rows)
    assert error == ""
    shard = StagedRows(rows).shard(0)
    tokens = scorer.tokenize(shard.queries, shard.candidates, shard.languages)
    assert np.array_equal(np.frombuffer(scores, SHARD), score_rows(scorer, shard, tokens))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bundle": "/absent/bundle"}, BundleError, r"/absent/bundle.*\(node "),
        ({"digest": "another"}, BundleError, "differs from the one on the node of the command"),
        ({"rows": "/absent/rows.arrow"}, MachineError, r"/absent/rows.arrow: cannot be read"),
    ],
)
def test_what_is_missing_on_a_node_is_named_by_the_command(scorer, rows, changes, kind, message):
    scores, text = called(scorer, **({"rows": rows} | changes))
    assert scores == b""
    with pytest.raises(kind, match=message):
        raise _error(text)
