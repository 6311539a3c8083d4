"""The files of several workers' metrics on a disk that is full."""

import shutil
import subprocess
import sys

import pytest

from service.metricfiles import ENTRY_BYTES

FILL = """
import errno, os, sys
import service.telemetry
from prometheus_client import CollectorRegistry, Counter
counter = Counter("tried", "", ["label"], registry=CollectorRegistry())
for number in range(100_000):
    try:
        counter.labels(f"label {number}" * 20).inc()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        break
counter.labels("label 0" * 20).inc()  # those that are there go on
print("full after", number)
"""


def in_small_disk(folder):
    """Return the command that runs Python with a disk of 256 kB at a folder."""
    mount = f'mount -t tmpfs -o size=256k tmpfs "{folder}" && exec "$0" "$@"'
    return ["unshare", "-Urm", "sh", "-c", mount, sys.executable, "-c"]


def can_mount(folder):
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*in_small_disk(folder), "pass"], capture_output=True).returncode == 0


def test_full_disk_is_an_error_and_does_not_end_the_process(tmp_path, monkeypatch):
    if not can_mount(tmp_path):
        pytest.skip("needs user namespaces")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    done = subprocess.run([*in_small_disk(tmp_path), FILL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.removeprefix("full after ")) > 10


def test_files_have_no_holes(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    code = FILL.replace("100_000", "2000")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    files = list(tmp_path.iterdir())
    assert files
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 2000 * ENTRY_BYTES
