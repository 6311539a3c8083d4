import subprocess
import sys

import numpy as np
import pytest

from relevance.errors import BundleError, ConfigError, InputError
from relevance.ray import BundleScorer
from relevance.scorer import Scorer
from relevance.tasks import SCORE_FIELDS, Pair

QUERIES = ["red shoe", "靴 " * 9, "cup", "zapatos rojos"]
PATHS = ["shoes,sneakers", "home,kitchen,cups & mugs", "home,cups", "shoes"]


def batch(**columns):
    """A batch as Ray makes one: arrays of objects."""
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def rows(**more):
    return batch(origin_query=QUERIES, category_path=PATHS, **more)


def test_a_batch_gets_the_scores_of_the_scorer_in_its_order(bundle):
    found = BundleScorer(bundle)(rows(language=["en", "ja", None, "es"], price=[1, 2, 3, 4]))
    scorer = Scorer.open(bundle, threads=1)
    wanted = scorer.score(list(map(Pair, QUERIES, PATHS, ["en", "ja", "unk", "es"])))
    assert list(found) == ["origin_query", "category_path", "language", "price", *SCORE_FIELDS]
    assert np.array_equal(found["score"], wanted.scores)
    assert np.array_equal(found["label_predicted"], wanted.labels)
    assert np.array_equal(found["truncated"], wanted.truncated)
    assert found["price"].tolist() == [1, 2, 3, 4]
    assert set(found["model_version"]) == {scorer.manifest.version}


def test_columns_and_prefix_are_the_users(bundle):
    scorer = BundleScorer(bundle, columns={"query": "q", "candidate": "c", "language": "tag"}, prefix="qc_")
    found = scorer(batch(q=QUERIES, c=PATHS, tag=["en"] * 4))
    plain = BundleScorer(bundle)(rows(language=["en"] * 4))
    assert np.array_equal(found["qc_score"], plain["score"])


def test_an_empty_batch_stays_empty(bundle):
    found = BundleScorer(bundle)(batch(origin_query=[], category_path=[]))
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 0)
    assert set(SCORE_FIELDS) <= set(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            batch(query=QUERIES, category_path=PATHS),
            r"'origin_query' is missing; columns found: \['category_path'",
        ),
        (
            batch(origin_query=["a", None], category_path=[" ", "b"]),
            "2 bad values.*row 1 of the batch, origin_query",
        ),
        (rows(score=[0] * 4), r"has the columns \['score'\] already"),
        ([1, 2], "is a builtins.list; expected columns of arrays"),
    ],
)
def test_a_bad_batch_is_named(bundle, given, message):
    with pytest.raises(InputError, match=message):
        BundleScorer(bundle)(given)


def test_bad_arguments_are_named(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"columns: \['text'\] unknown"):
        BundleScorer(bundle, columns={"text": "q"})
    with pytest.raises(InputError, match="column 'lang' is missing"):
        BundleScorer(bundle, columns={"language": "lang"})(rows())
    with pytest.raises(BundleError, match="absent"):
        BundleScorer(tmp_path / "absent")


def test_nothing_imports_ray_unless_asked():
    code = "import relevance.ray, training.cli, training.scoring.run, sys; print('ray' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
