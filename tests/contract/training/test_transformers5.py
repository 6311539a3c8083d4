"""`relevance train` with transformers 5 gives the model that it gives with transformers 4, and 4 exports it."""

import json
import os
import subprocess

import numpy as np
import pytest

from export.exporting import DEFAULT_LIMITS, export_bundle
from export.verifying import verify_bundle
from tests import ROOT
from tests.models import tiny_language_model, tiny_model
from tests.unit.training.fitting.loop.test_finetune import rows
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.evaluation.report import score_logits
from training.fitting.recipe import Recipe

PYTHON = ROOT / ".venv-transformers5" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-transformers5 (make transformers5)")
TOLERANCE = 1e-4  # of a logit: both versions compute the same, in another order
TRAINING = {
    "epochs": 2,
    "batch_size": 16,
    "evaluations": 1,
    "precision": "fp32",
    "max_length": 112,
    "learning_rate": 1e-3,
}
CASES = {
    "encoder": (tiny_model, {}),
    "decoder": (tiny_language_model, {"head": {"kind": "yes_no"}, "training": {"gradient_checkpointing": True}}),
}
NOISE = ("Warning", "REPORT", "Loading weights", "Writing model")


@pytest.mark.parametrize("case", CASES)
def test_a_model_trained_with_transformers_5_is_exported_with_4(tmp_path, case):
    make, more = CASES[case]
    base = make(tmp_path / "base")
    recipe = {"name": case, "task": "qc", "base_model": str(base), "seed": 3}
    recipe |= more | {"training": TRAINING | more.get("training", {})}
    some, dev = rows(64), rows(24, 64)
    train(Job(Recipe.model_validate(recipe), some, dev, tmp_path / "four"))

    done = train_with_5(tmp_path, recipe, some, dev)
    assert done.returncode == 0, done.stderr
    assert not [word for word in NOISE if word in done.stderr], done.stderr
    assert json.loads((tmp_path / "five" / "config.json").read_text())["transformers_version"].startswith("5.")
    np.testing.assert_allclose(dev_logits(tmp_path / "five"), dev_logits(tmp_path / "four"), atol=TOLERANCE)
    _, logits = score_logits(tmp_path / "five", dev)
    np.testing.assert_allclose(logits, dev_logits(tmp_path / "five"), atol=TOLERANCE)
    export_bundle(tmp_path / "five", tmp_path / "bundle", "fp32", DEFAULT_LIMITS["fp32"], overwrite=False)
    verify_bundle(tmp_path / "bundle")


def train_with_5(folder, recipe, some, dev):
    sections = {name: value for name, value in recipe.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in recipe.items() if name not in sections]
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    (folder / "recipe.toml").write_text("\n".join(lines))
    for name, part in (("train", some), ("dev", dev)):
        written = [
            {"id": row.id, "origin_query": row.pair.query, "category_path": row.pair.candidate, "label": row.label}
            | {"language": row.pair.language}
            for row in part
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, written)))
    command = [
        PYTHON,
        "-m",
        "relevance",
        "train",
        "recipe.toml",
        "five",
        "--train",
        "train.jsonl",
        "--dev",
        "dev.jsonl",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
