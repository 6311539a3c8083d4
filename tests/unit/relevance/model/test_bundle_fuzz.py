"""Whatever a bundle holds: it opens, or the error is one of ours, and nothing outside of its folder is touched."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevance.errors import BundleError, RelevanceError
from relevance.model import bundle_files
from relevance.model.bundle import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, Bundle, stated_version
from relevance.model.card import TOKENIZER_FILE
from relevance.model.prior import CategoryPrior
from tests.spoiled import FILES, files_opened, read, seal, spoil, strays
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder, prior=CategoryPrior.of([["home", "cups"], ["toys"]], [1, 0], [3, 2], folds=5))
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "qc")


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_a_spoiled_bundle_is_read_or_refused_and_nothing_else(made, seed):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(made, Path(place) / "around" / "qc"))
        spoil(folder, Random(seed))
        before = sorted(Path(place).rglob("*"))
        with files_opened() as opened, contextlib.suppress(RelevanceError):
            read(folder)
        assert strays(folder, opened) == []
        assert sorted(Path(place).rglob("*")) == before


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_the_folder_is_refused(bundle, name):
    outside = bundle.parent / "outside"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(BundleError, match=f"{name} is a link out of its folder"):
        Bundle.open(bundle)


def test_links_within_the_folder_are_followed(bundle):
    """Kubernetes mounts ConfigMaps so."""
    (bundle / "..data").mkdir()
    for name in FILES:
        (bundle / name).rename(bundle / "..data" / name)
        (bundle / name).symlink_to(Path("..data") / name)
    read(bundle)


@pytest.mark.parametrize("name", [MANIFEST_FILE, GOLDEN_FILE])
def test_a_huge_file_is_refused(bundle, name, monkeypatch):
    monkeypatch.setattr(bundle_files, "MAX_FILE_BYTES", 20_000)
    with (bundle / name).open("ab") as file:
        file.write(b" " * 20_000)
    if name == GOLDEN_FILE:
        seal(bundle)
    with pytest.raises(BundleError, match=f"{name} is larger than 20000 bytes"):
        Bundle.open(bundle)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}\n", b"[1]\n", b"\xed\xa0\x80\n", b'{"query": "a"}\n'])
def test_golden_pairs_that_are_none_are_refused(bundle, content):
    (bundle / GOLDEN_FILE).write_bytes(content)
    seal(bundle)
    with pytest.raises(BundleError, match=r"golden\.jsonl"):
        Bundle.open(bundle)


@pytest.mark.parametrize("text", ['{"recipe": "\\ud800"}', "[" * 5000, '{"a":' * 960 + "1" + "}" * 960, "9" * 5000])
def test_a_manifest_that_is_no_json_is_refused(bundle, text):
    (bundle / MANIFEST_FILE).write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json|schema_version"):
        Bundle.open(bundle)


def test_a_tokenizer_that_cannot_tokenise_is_refused(bundle):
    path = bundle / TOKENIZER_FILE
    path.write_text(
        '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}'
    )
    seal(bundle)
    with pytest.raises(RelevanceError, match=r"tokenizer"):
        Bundle.open(bundle).tokenizer()


def test_a_tokenizer_that_panics_is_refused(bundle):
    """Its template names a special token that it does not hold: the Rust code stops with an error of its own kind."""
    content = json.loads((bundle / TOKENIZER_FILE).read_text())
    content["post_processor"]["special_tokens"] = {}
    (bundle / TOKENIZER_FILE).write_text(json.dumps(content))
    seal(bundle)
    with pytest.raises(RelevanceError, match=r"tokenizer.*expected a tokenizer\.json"):
        Bundle.open(bundle).tokenizer()


def test_the_model_is_not_read_before_its_hash_is_right(bundle):
    (bundle / MODEL_FILE).write_bytes(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx has sha256"):
        Bundle.open(bundle)


def test_the_version_of_a_pipe_or_a_huge_file_is_not_waited_for(bundle, monkeypatch):
    assert stated_version(bundle) == Bundle.open(bundle).manifest.version
    monkeypatch.setattr(bundle_files, "MAX_FILE_BYTES", 100)
    assert stated_version(bundle) is None
    (bundle / MANIFEST_FILE).unlink()
    os.mkfifo(bundle / MANIFEST_FILE)
    assert stated_version(bundle) is None
