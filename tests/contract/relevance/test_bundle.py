import hashlib
import json
import shutil

import pytest

from relevance.errors import BundleError
from relevance.model.bundle import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, Bundle
from relevance.model.card import TOKENIZER_FILE
from tests.tiny import tiny_bundle

FILES = (MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE, MANIFEST_FILE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "qc")


def test_a_bundle_opens_with_manifest_golden_pairs_and_tokenizer(bundle):
    opened = Bundle.open(bundle)
    assert opened.manifest.version == opened.manifest.digest[:12]
    assert len(opened.golden) == 4
    assert len(opened.tokenizer().encode_pairs([("a", "b")])[0]) == 6


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_found(bundle, name):
    path = bundle / name
    content = bytearray(path.read_bytes())
    for place in (len(content) // 3, len(content) // 2, len(content) - 9):
        flipped = bytearray(content)
        flipped[place] ^= 0x01
        path.write_bytes(flipped)
        with pytest.raises(BundleError, match=r"damaged|altered|manifest\.json"):
            Bundle.open(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        Bundle.open(bundle)


def test_a_bundle_of_before_a_field_was_added_opens(bundle):
    manifest = json.loads((bundle / MANIFEST_FILE).read_text())
    for name in ("language_histograms", "dev_rows", "digest"):
        del manifest[name]
    content = json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()
    digest = hashlib.sha256(content).hexdigest()
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest | {"digest": digest}))
    opened = Bundle.open(bundle).manifest
    assert opened.digest == digest
    assert opened.language_histograms == opened.dev_rows == {}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema_version", 99, "schema_version 99 is unknown; expected 1; export it again"),
        ("format_version", 99, "format_version 99 is unknown; expected 3; .*train the model again"),
        ("format_version", 1, "format_version 1 is unknown; expected 3; .*train the model again"),
    ],
)
def test_an_unknown_version_is_named_before_anything_else(bundle, field, value, message):
    manifest = json.loads((bundle / MANIFEST_FILE).read_text())
    manifest[field] = value
    manifest["from_the_future"] = True
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


def test_an_edited_threshold_is_found(bundle):
    text = (bundle / MANIFEST_FILE).read_text()
    assert '"threshold": 0.5,' in text
    (bundle / MANIFEST_FILE).write_text(text.replace('"threshold": 0.5,', '"threshold": 0.6,'))
    with pytest.raises(BundleError, match="digest"):
        Bundle.open(bundle)


def test_golden_logits_that_disagree_are_refused(bundle):
    opened = Bundle.open(bundle)
    logits = [pair.logit for pair in opened.golden]
    assert opened.check_golden(logits) == 0
    for wrong in (logits[0] + 1.0, float("nan")):
        with pytest.raises(BundleError, match="golden pair 1"):
            opened.check_golden([wrong, *logits[1:]])
    with pytest.raises(BundleError, match="3 logits for 4"):
        opened.check_golden(logits[:3])
