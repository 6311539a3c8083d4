"""Architectures, tiny and random, the whole way: train, export, verify, and a score over HTTP."""

import json
import warnings

import numpy as np
import onnxruntime
import pytest

from export.exporting import DEFAULT_LIMITS, export_bundle
from export.verifying import verify_bundle
from relevance.bundle import MODEL_FILE, Bundle
from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Pair, Task
from tests.models import DECODERS, tiny_model, tiny_tokenizer
from tests.serving import in_process
from training.fitting import servable
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation import score_rows
from training.fitting.recipe import Recipe

FAMILIES = (
    *("albert", "bert", "deberta", "deberta-v2", "distilbert", "electra", "llama", "modernbert", "mpnet"),
    *("qwen2", "qwen3", "roberta", "xlm-roberta"),
)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # in DeBERTa and ModernBERT

TYPED = {"bert", "deberta", "deberta-v2", "electra", "albert"}


def rows(start=0):
    made = []
    for i in range(start, start + 24):
        pair = Pair(f"red shoes {i}", f"goods,{'shoes' if i % 2 else 'cups'}", "en" if i % 3 else "de")
        made.append(LabeledPair(pair, i % 2, str(i)))
    return made


def recipe(base, family="bert"):
    head = "mean" if family in DECODERS else "paired"
    return Recipe.model_validate(
        {
            "name": family,
            "task": "qc",
            "base_model": str(base),
            "head": {"kind": head},
            "format": {"candidate_prefix": " category: "},
            "training": {"epochs": 1, "batch_size": 12, "evaluations": 1, "max_length": 48},
        }
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_family_goes_from_training_to_a_score_over_http(tmp_path, family):
    base = tiny_model(tmp_path / "base", family, typed=family in TYPED)
    train(Job(recipe(base, family), rows(), rows(24), tmp_path / "checkpoint"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", "fp32", DEFAULT_LIMITS["fp32"], overwrite=False)
    assert verify_bundle(tmp_path / "bundle").worst < 1e-3
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / MODEL_FILE, providers=["CPUExecutionProvider"])
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.input_names == tuple(entry.name for entry in session.get_inputs())
    some = rows()[:4]

    async def ask(client, service):
        pairs = [{"query": r.pair.query, "candidate": r.pair.candidate, "language": r.pair.language} for r in some]
        answer = await client.post("/v1/score", json={"task": "qc", "pairs": pairs})
        return [each["score"] for each in answer.raise_for_status().json()["scores"]]

    served = in_process({Task.QC: tmp_path / "bundle"}, ask)
    np.testing.assert_allclose(served, score_rows(tmp_path / "checkpoint", some)[1], atol=1e-3)


def test_every_family_that_is_let_through_is_tried_here():
    assert set(FAMILIES) | {"camembert"} == servable.SERVABLE  # camembert is roberta by another name


@pytest.mark.parametrize("family", ["gemma3", "gemma3_text", "xlm-roberta-xl", "t5", "xlnet", "funnel"])
def test_what_cannot_be_served_is_refused_before_training(tmp_path, family):
    base = tmp_path / "base"
    base.mkdir()
    tiny_tokenizer(base)
    (base / "config.json").write_text(json.dumps({"model_type": family}))
    (base / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"architecture '{family}' cannot be served, it .*; use one of XLM-R"):
        train(Job(recipe(base), rows(), rows(24), tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


def test_a_graph_over_two_gib_is_refused_before_training(tmp_path, monkeypatch):
    base = tiny_model(tmp_path / "base")
    monkeypatch.setattr(servable, "LARGEST_GRAPH", 1000)
    with pytest.raises(ConfigError, match=r"a bundle holds at most 2 GiB; keep fewer layers"):
        train(Job(recipe(base), rows(), rows(24), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
