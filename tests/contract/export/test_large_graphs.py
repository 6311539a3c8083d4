"""Bundles whose weights are too large for one ONNX file, shown with a small model and a lower limit."""

import numpy as np
import onnx
import pytest

from export import graph_files
from relevance import Scorer
from relevance.errors import BundleError, CheckpointError
from relevance.model.bundle import DATA_FILE, MODEL_FILE, Bundle
from relevance.model.openvino_model import BF16_TOLERANCE, OpenVinoModel
from relevance.storage.files import sha256_of
from tests.contract.export.test_export import ROWS, checkpoint, exported

PAIRS = [(query, candidate, language) for query, candidate, language, _ in ROWS]
FILES = {"golden.jsonl", "manifest.json", "tokenizer.json", MODEL_FILE}


@pytest.fixture
def low_limit(monkeypatch):
    monkeypatch.setattr(graph_files, "LARGEST_FILE", 20_000)


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("precision", "family", "kind"),
    [("fp32", "bert", "paired"), ("int8", "bert", "paired"), ("fp32", "gemma3_text", "mean")],  # by optimum, by torch
)
def test_weights_lie_apart_are_hashed_and_score_the_same(tmp_path, monkeypatch, precision, family, kind):
    source = checkpoint(tmp_path, family, kind)
    exported(source, tmp_path / "whole", precision)
    monkeypatch.setattr(graph_files, "LARGEST_FILE", 20_000)
    manifest = exported(source, tmp_path / "apart", precision)
    assert (names(tmp_path / "whole"), names(tmp_path / "apart")) == (FILES, FILES | {DATA_FILE})
    assert manifest.sha256[DATA_FILE] == sha256_of(tmp_path / "apart" / DATA_FILE)
    whole, apart = (Scorer.open(tmp_path / name, device="cpu").score(PAIRS).logits for name in ("whole", "apart"))
    np.testing.assert_allclose(apart, whole, atol=1e-5)


def test_a_flipped_byte_a_missing_and_a_strange_file_are_named(tmp_path, low_limit):
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    data = tmp_path / "bundle" / DATA_FILE
    content = data.read_bytes()
    data.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(BundleError, match=r"model\.onnx\.data has sha256"):
        Bundle.open(tmp_path / "bundle")
    data.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx\.data is missing"):
        Bundle.open(tmp_path / "bundle")


def test_weights_that_the_manifest_does_not_name_are_refused(tmp_path):
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    (tmp_path / "bundle" / DATA_FILE).write_bytes(b"weights")
    with pytest.raises(BundleError, match=r"model\.onnx\.data is there, and the manifest has no sha256"):
        Bundle.open(tmp_path / "bundle")


def test_openvino_reads_weights_that_lie_apart(tmp_path, low_limit):
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    arrays = bundle.tokenizer().collate(bundle.inputs().encode([golden.pair for golden in bundle.golden]))
    found = OpenVinoModel(bundle, 1).run({name: arrays[name] for name in bundle.manifest.input_names})
    assert found == pytest.approx([golden.logit for golden in bundle.golden], abs=BF16_TOLERANCE)


def test_fp16_past_the_limit_is_refused_and_leaves_nothing(tmp_path, low_limit):
    source = checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="the conversion to fp16 holds at most 2 GiB; expected --precision fp32"):
        exported(source, tmp_path / "bundle", "fp16")
    assert names(tmp_path) == {"bert-False", "checkpoint"}


def test_a_graph_that_is_written_again_replaces_its_weights(tmp_path, low_limit):
    exported(checkpoint(tmp_path), tmp_path / "bundle")
    size = (tmp_path / "bundle" / DATA_FILE).stat().st_size
    model = onnx.load(tmp_path / "bundle" / MODEL_FILE)
    graph_files.save_graph(model, tmp_path / "bundle" / MODEL_FILE)
    assert (tmp_path / "bundle" / DATA_FILE).stat().st_size == size
