"""fetch.py of the component bundle-url: bundles come whole, checked and into their folder, or not at all."""

import hashlib
import importlib.util
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import ROOT

FILE = ROOT / "deploy" / "kubernetes" / "components" / "bundle-url" / "fetch.py"
SPEC = importlib.util.spec_from_file_location("bundle_fetch", FILE)
fetch = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fetch)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def store(tmp_path):
    """A folder that is served over HTTP, and its URL."""
    folder = tmp_path / "store"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def archive(file, **contents):
    """Write a .tar.gz with these files and return its sha256."""
    with tarfile.open(file, "w:gz") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def run(target, url, sha256):
    sources = target.parent / "sources.toml"
    sources.write_text(f'[qc]\nurl = "{url}"\nsha256 = "{sha256}"\n')
    fetch.main(sources, target)


def test_a_bundle_is_fetched_once(store, target, capsys):
    folder, url = store
    sha256 = archive(folder / "qc.tar.gz", **{"manifest.json": b"{}", "model.onnx": b"weights"})
    run(target, f"{url}/qc.tar.gz", sha256)
    assert (target / "qc" / "model.onnx").read_bytes() == b"weights"
    assert [path.name for path in target.iterdir()] == ["qc"]
    (folder / "qc.tar.gz").unlink()
    run(target, f"{url}/qc.tar.gz", sha256)
    assert "qc: exists already" in capsys.readouterr().err


def test_another_archive_than_named_leaves_nothing(store, target):
    folder, url = store
    archive(folder / "qc.tar.gz", model=b"weights")
    with pytest.raises(ValueError, match="its sha256 is"):
        run(target, f"{url}/qc.tar.gz", "0" * 64)
    assert not [*target.iterdir()]


@pytest.mark.parametrize("name", ["../outside", "/tmp/relevance-outside", "a/../../outside"])
def test_an_archive_that_climbs_out_leaves_nothing(store, target, name):
    folder, url = store
    sha256 = archive(folder / "qc.tar.gz", **{name: b"x"})
    outside = Path("/tmp/relevance-outside")
    try:
        run(target, f"{url}/qc.tar.gz", sha256)
    except tarfile.TarError:
        assert not [*target.iterdir()]
    assert not (target / "outside").exists()
    assert not (target.parent / "outside").exists()
    assert not outside.exists()


def test_a_missing_archive_is_an_error_of_the_system(store, target):
    with pytest.raises(OSError, match="404"):
        run(target, f"{store[1]}/none.tar.gz", "0" * 64)
    assert not [*target.iterdir()]


def test_a_local_file_is_no_source(target):
    with pytest.raises(ValueError, match="expected https"):
        run(target, "file:///etc/passwd", "0" * 64)


def test_too_large_an_archive_is_left(store, target, monkeypatch):
    folder, url = store
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    sha256 = archive(folder / "qc.tar.gz", zeros=bytes(100_000))  # small as it comes, large unpacked
    with pytest.raises(ValueError, match="bytes unpacked"):
        run(target, f"{url}/qc.tar.gz", sha256)
    assert not [*target.iterdir()]
