"""`relevance.Scorer`: scores in this process, as the service and `relevance score` give them."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import relevance
from relevance.errors import BundleError, InputError
from relevance.tasks import Pair
from tests.tiny import GOLDEN_PAIRS, MAX_LENGTH, tiny_bundle

PAIRS = [Pair(f"query {n}", "home,cups" + "!" * (n % 9), ("en", "ja")[n % 2]) for n in range(50)]


@pytest.fixture(scope="module")
def scorer(bundle):
    return relevance.Scorer.open(bundle, device="cpu", threads=1)


def test_scores_labels_and_logits_fit_one_another(scorer):
    found = scorer.score(PAIRS)
    assert len(found) == 50
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-found.logits.astype(float))), atol=1e-12)
    cuts = [0.9 if pair.language == "ja" else 0.5 for pair in PAIRS]
    assert found.labels.tolist() == [int(score >= cut) for score, cut in zip(found.scores, cuts, strict=True)]
    assert set(found.labels.tolist()) == {0, 1}


def test_batches_change_no_score_and_no_order(scorer, bundle):
    small = relevance.Scorer.open(bundle, device="cpu", threads=1, max_batch_tokens=64)
    np.testing.assert_allclose(small.score(PAIRS).logits, scorer.score(PAIRS).logits, atol=1e-5)
    alone = [scorer.score([pair]).logits[0] for pair in PAIRS]
    np.testing.assert_allclose(scorer.score(PAIRS).logits, alone, atol=1e-5)


def test_golden_pairs_score_as_the_bundle_says(scorer):
    expected = [golden.logit for golden in scorer._model.bundle.golden]
    np.testing.assert_allclose(scorer.score(GOLDEN_PAIRS).logits, expected, atol=1e-4)


def test_tuples_are_pairs(scorer):
    found = scorer.score([("cup", "home,cups"), ("cup", "home,cups", "pt-BR")])
    assert found.logits[0] == pytest.approx(found.logits[1], abs=1e-6)


def test_cut_texts_are_marked(scorer):
    assert scorer.score([("cup", "a"), ("cup", "a" * MAX_LENGTH)]).truncated.tolist() == [False, True]


def test_no_pairs_give_no_scores(scorer):
    found = scorer.score([])
    assert [len(found), *found.scores.shape, *found.labels.shape, *found.truncated.shape] == [0, 0, 0, 0]


def test_all_bad_pairs_are_named(scorer):
    bad = [("a", "b"), ("a",), "ab", ("a", " "), ("a", None), 7, None]
    with pytest.raises(InputError, match=r"6 bad pairs, .*pair 1: \('a',\); pair 2: 'ab'.*; and 1 more"):
        scorer.score(bad)


def test_a_pickled_scorer_opens_its_bundle_where_it_arrives(scorer, bundle, tmp_path):
    (tmp_path / "scorer").write_bytes(pickle.dumps(scorer))
    code = f"""
import pickle, pathlib
scorer = pickle.loads(pathlib.Path({str(tmp_path / "scorer")!r}).read_bytes())
print(repr(scorer.score([("cup", "home,cups")]).logits.tolist()), scorer.manifest.version)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    expected = scorer.score([("cup", "home,cups")]).logits.tolist()
    assert done.stdout.split() == [repr(expected), scorer.manifest.version]


def test_a_pickled_scorer_refuses_another_version(tmp_path):
    tiny_bundle(tmp_path / "qc")
    pickled = pickle.dumps(relevance.Scorer.open(tmp_path / "qc", device="cpu"))
    tiny_bundle(tmp_path / "qc", seed=1)
    with pytest.raises(BundleError, match="as pickled"):
        pickle.loads(pickled)


def test_a_damaged_bundle_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc")
    with (tmp_path / "qc" / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx has sha256"):
        relevance.Scorer.open(tmp_path / "qc")


def test_the_kernel_alone_needs_no_onnxruntime():
    code = "import sys; import relevance.model.bundle, relevance.model.card; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
