"""Scorers: models of the right task alone, logits that are kept, and a killed run that resumes with the same chunks."""

from types import SimpleNamespace

import numpy as np
import pytest

from relevance.errors import BundleError, CheckpointError, ConfigError
from relevance.model.card import Calibration
from relevance.tasks import LabeledPair, Pair, Task
from tests.tiny import tiny_bundle
from training.fitting.evaluation import scorer
from training.fitting.evaluation.scorer import KeptScorer, ModelScorer, model_scorer


def rows(count, language="en"):
    return [LabeledPair(Pair(f"cup {n}", "home,cups", language), 0, "") for n in range(count)]


class Counting:
    """A scorer whose logits depend on the row and on the chunk, as a model's last digits do; may die at a call."""

    role = "teacher"

    def __init__(self, key="a", dies_at=0):
        self.key, self._dies_at = key, dies_at
        self.chunks = []

    def __call__(self, some):
        if len(self.chunks) + 1 == self._dies_at:
            raise KeyboardInterrupt
        self.chunks.append([row.pair for row in some])
        return np.array([len(row.pair.query) + 1e-9 * len(some) + 1e-9 * n for n, row in enumerate(some)])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(scorer, "CHUNK_PAIRS", 4)


def test_equal_pairs_are_scored_once_and_never_again(tmp_path):
    first, second = Counting(), Counting()
    some = [*rows(3), *rows(3), *rows(1, "de")]
    found = KeptScorer(first, tmp_path)(some)
    assert first.chunks == [[row.pair for row in [*rows(3), *rows(1, "de")]]]
    assert np.array_equal(found[:3], found[3:6])
    assert np.array_equal(KeptScorer(second, tmp_path)(some), found)
    assert second.chunks == []


def test_another_model_has_logits_of_its_own(tmp_path):
    for key in ("a", "b"):
        counting = Counting(key)
        KeptScorer(counting, tmp_path)(rows(2))
        assert len(counting.chunks) == 1


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_killed_run_resumes_with_the_same_chunks(tmp_path, dies_at):
    whole, dying, resumed = Counting(), Counting(dies_at=dies_at), Counting()
    expected = KeptScorer(whole, tmp_path / "whole")(rows(10))
    with pytest.raises(KeyboardInterrupt):
        KeptScorer(dying, tmp_path / "killed")(rows(10))
    found = KeptScorer(resumed, tmp_path / "killed")(rows(10))
    assert found.tolist() == expected.tolist()
    assert dying.chunks + resumed.chunks == whole.chunks


def test_logits_that_are_not_finite_are_refused_and_not_kept(tmp_path):
    card = SimpleNamespace(calibration=Calibration())
    broken = ModelScorer(SimpleNamespace(card=card, logits=lambda some, name: np.array([0.0, np.nan])), "teacher", "x")
    with pytest.raises(ConfigError, match="teacher: 1 of 2 logits are not finite"):
        KeptScorer(broken, tmp_path)(rows(2))
    counting = Counting(broken.key)
    KeptScorer(counting, tmp_path)(rows(2))
    assert len(counting.chunks[0]) == 2


def test_the_key_is_that_of_the_models_content(tmp_path):
    keys = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny_bundle(tmp_path / name, seed=seed)
        keys.append(model_scorer(tmp_path / name, Task.QC, "vet").key)
    assert keys[0] == keys[1] != keys[2]


def test_what_is_no_model_of_the_task_is_named(tmp_path):
    tiny_bundle(tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"vet .*gone: no such folder; expected a checkpoint or a bundle"):
        model_scorer(tmp_path / "gone", Task.QC, "vet")
    with pytest.raises(ConfigError, match=r"vet .*bundle: is a model for qc; expected one for qi"):
        model_scorer(tmp_path / "bundle", Task.QI, "vet")
    with pytest.raises(CheckpointError, match=r"empty: no card\.json"):
        model_scorer(tmp_path / "empty", Task.QC, "vet")
    with (tmp_path / "bundle" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        model_scorer(tmp_path / "bundle", Task.QC, "vet")
