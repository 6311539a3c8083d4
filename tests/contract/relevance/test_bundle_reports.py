"""Reports in a bundle: hashed as every file, names checked, and none in a bundle of before."""

import json
import shutil

import pytest

from relevance.errors import BundleError
from relevance.model.bundle import MANIFEST_FILE, Bundle
from relevance.model.reports import MAX_REPORT_BYTES, is_report
from tests.tiny import add_reports, tiny_bundle

PAGE = "<!doctype html><title>Rows</title>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "qc")


def test_a_report_is_hashed_and_read(bundle):
    assert Bundle.open(bundle).manifest.reports == ()
    before = Bundle.open(bundle).manifest.version
    manifest = add_reports(bundle, {"test-set.html": PAGE, "data.html": "<p>"})
    opened = Bundle.open(bundle)
    assert opened.manifest.reports == ("data.html", "test-set.html")
    assert opened.report("test-set.html").decode() == PAGE
    assert opened.manifest.version == manifest.version != before


def test_an_altered_a_missing_and_an_added_report_are_refused(bundle):
    add_reports(bundle, {"data.html": PAGE})
    opened, file = Bundle.open(bundle), bundle / "reports/data.html"
    file.write_text(PAGE + " ")
    with pytest.raises(BundleError, match=r"reports/data\.html has sha256"):
        Bundle.open(bundle)
    with pytest.raises(BundleError, match="has changed since the bundle was opened"):
        opened.report("data.html")
    file.rename(bundle / "reports/other.html")
    with pytest.raises(BundleError, match=r"data\.html is missing; reports/other\.html is there, and the manifest has"):
        Bundle.open(bundle)
    with pytest.raises(BundleError, match="No such file"):
        opened.report("data.html")


def test_a_report_that_is_too_large_or_a_link_out_is_not_read(bundle, tmp_path):
    add_reports(bundle, {"data.html": "x" * (MAX_REPORT_BYTES + 1)})
    with pytest.raises(BundleError, match=f"larger than {MAX_REPORT_BYTES} bytes"):
        Bundle.open(bundle).report("data.html")
    (bundle / "reports").rename(tmp_path / "elsewhere")
    (bundle / "reports").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"reports/data\.html is a link out of its folder"):
        Bundle.open(bundle)


BAD = [
    "../manifest.html",
    ".html",
    "a/b.html",
    "-x.html",
    "a b.html",
    "x.htm",
    "x.html\n",
    "ü.html",
    "a" * 96 + ".html",
]


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_with_another_name_is_refused(bundle, name):
    assert not is_report(f"reports/{name}")
    add_reports(bundle, {"data.html": PAGE})
    manifest = Bundle.open(bundle).manifest
    found = manifest.model_copy(update={"sha256": manifest.sha256 | {f"reports/{name}": "0" * 64}}).sealed()
    (bundle / MANIFEST_FILE).write_text(json.dumps(found.model_dump(mode="json")))
    with pytest.raises(BundleError, match="is no name of a report, expected letters"):
        Bundle.open(bundle)
