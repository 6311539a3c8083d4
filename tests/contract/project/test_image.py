"""The CPU image as far as it can be had without a container engine: its exact instructions, then its start command.

Installs every package anew (some 40 s, from the package index), so it runs only with CHECK_IMAGE=1.
"""

import json
import os
import signal
import socket
import subprocess
import time

import httpx
import pytest

from tests.containers import can_mount, script, setting
from tests.tiny import tiny_bundle

TARGET = "service-cpu"
BUILD_SECONDS = 300
LOOK_INSIDE = """
touch /opt/relevance/x /bundles/qc/x && exit 91
python -c 'import torch' 2>/dev/null && exit 92
python -c 'import transformers' 2>/dev/null && exit 93
python -c 'import training' 2>/dev/null && exit 94
python -m pip --version 2>/dev/null && exit 95
grep -q 'CapEff:.*0000000000000000' /proc/self/status || exit 96
echo "uid $(id -u), modules checked" >&2
"""

pytestmark = pytest.mark.skipif(
    os.environ.get("CHECK_IMAGE") != "1", reason="CHECK_IMAGE=1 builds it, from the package index"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The started image: its process, URL and everything that it wrote."""
    if not can_mount():
        pytest.skip("needs root, unshare, setpriv and overlayfs")
    folder = tmp_path_factory.mktemp("image")
    tiny_bundle(folder / "qc")
    for path in (folder, folder / "qc"):
        path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = " ".join(json.loads(setting(TARGET, "ENTRYPOINT")))
    health = " ".join(json.loads(setting(TARGET, "HEALTHCHECK").partition("CMD ")[2]))
    line = f"{LOOK_INSIDE}export RELEVANCE_PORT={port} RELEVANCE_DRAIN_SECONDS=0 RELEVANCE_THREADS=1\n"
    line += f"(until {health} 2>/dev/null; do sleep 0.2; done; echo health check passed >&2) &\n"
    line += f"exec {start} --bundle qc=/bundles/qc"
    log = folder / "log"
    with log.open("wb") as out:
        command = ["unshare", "-m", "sh", "-c", script(TARGET, folder / "qc", ["sh", "-c", line])]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield child, f"http://127.0.0.1:{port}", log
    finally:
        child.kill()
        child.wait()


def wait_for(service, words):
    child, _, log = service
    until = time.monotonic() + BUILD_SECONDS
    while words not in log.read_text():
        assert child.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.2)


def test_the_image_serves_as_an_unprivileged_user_from_a_read_only_root(service):
    wait_for(service, '"ready at')
    _, url, log = service
    assert "uid 10001, modules checked" in log.read_text()
    assert "Read-only file system" in log.read_text()
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
    body = {"task": "qc", "query": "zapatos", "language": "es", "candidates": ["Shoes"]}
    answer = httpx.post(f"{url}/v1/score", json=body)
    assert answer.status_code == 200
    assert "relevance_requests_total" in httpx.get(f"{url}/metrics").text


def test_its_health_check_passes(service):
    wait_for(service, "health check passed")


def test_its_stop_signal_ends_it_with_0(service):
    wait_for(service, "health check passed")
    child, _, log = service
    child.send_signal(signal.Signals[setting(TARGET, "STOPSIGNAL")])
    assert child.wait(60) == 0, log.read_text()[-3000:]
