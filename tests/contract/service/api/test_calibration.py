"""A calibration by language is the same in the service, in `relevance.Scorer` and in `relevance evaluate`."""

import httpx
import numpy as np
import pytest

import relevance
from relevance.model.bundle import Bundle, write_bundle_files
from relevance.model.card import Calibration, LanguageOffset
from relevance.tasks import LabeledPair, Pair
from tests.serving import running
from tests.tiny import tiny_bundle
from training.fitting.evaluation.report import score_rows

PAIRS = [Pair("cup", "home,cups", code) for code in ("en", "es", "ja", "pt")]


def calibrated(folder):
    """A bundle that adds 1.5 to the logits of es and takes 1 from those of ja."""
    tiny_bundle(folder)
    bundle = Bundle.open(folder)
    offsets = {
        code: LanguageOffset(offset=value, own_offset=value, rows=90, source="dev rows")
        for code, value in (("es", 1.5), ("ja", -1.0))
    }
    manifest = bundle.manifest.model_copy(update={"calibration": Calibration(by_language=offsets)})
    write_bundle_files(folder, manifest, bundle.golden)
    return {"qc": folder}


def test_every_score_has_the_offset_of_its_language(tmp_path):
    bundles = calibrated(tmp_path / "qc")
    found = relevance.Scorer.open(bundles["qc"], device="cpu", threads=1).score(PAIRS)
    expected = 1 / (1 + np.exp(-found.logits.astype(float) - np.array([0, 1.5, -1, 0])))
    assert found.scores == pytest.approx(expected)
    assert len(set(found.logits.tolist())) == 1  # the model itself reads no language
    rows = [LabeledPair(pair, 1, str(n)) for n, pair in enumerate(PAIRS)]
    assert score_rows(bundles["qc"], rows)[1] == pytest.approx(expected, abs=1e-5)
    body = {
        "task": "qc",
        "pairs": [{"query": p.query, "candidate": p.candidate, "language": p.language} for p in PAIRS],
    }
    with running(bundles) as process:
        answer = httpx.post(f"{process.wait_ready()}/v1/score", json=body, timeout=30).json()
    assert [each["score"] for each in answer["scores"]] == pytest.approx(expected, abs=1e-5)
