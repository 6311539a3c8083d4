"""`relevance serve` as a process: what it refuses to start with, and how it ends."""

import concurrent.futures
import json
import shutil
import signal
import socket
import time

import httpx
import pytest

from tests.serving import Process, running
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory):
    """500 pairs of it take around a second."""
    folder = tmp_path_factory.mktemp("slow") / "qc"
    tiny_bundle(folder, hidden=256, depth=12)
    return folder


def refusal(bundles, **settings):
    """Start a service that must refuse; return its exit code and its one line of complaint."""
    process = Process(bundles, **settings)
    code = process.end()
    complaints = [line for line in process.lines if not line.startswith("{")]
    assert len(complaints) == 1, process.lines
    assert "Traceback" not in "".join(process.lines)
    assert complaints[0].startswith("error: ")
    return code, complaints[0]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.jsonl", "manifest.json"])
def test_one_altered_byte_is_refused(bundle, tmp_path, name):
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    data = bytearray((damaged / name).read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / name).write_bytes(data)
    code, complaint = refusal({"qc": damaged})
    assert code == 3
    assert str(damaged) in complaint
    assert name in complaint


def test_bundle_of_another_task_is_refused(bundle):
    code, complaint = refusal({"qi": bundle})
    assert code == 3
    assert "its task is 'qc', expected 'qi'" in complaint


def test_missing_folder_is_refused(tmp_path):
    code, complaint = refusal({"qc": tmp_path / "nothing"})
    assert code == 3
    assert "nothing: no such folder" in complaint


def test_taken_port_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, complaint = refusal({"qc": tmp_path}, port=port)  # no bundle there: the port is looked at first
    assert code == 5
    assert f"port {port}" in complaint
    assert "expected a free port" in complaint


def test_setting_out_of_range_is_named(bundle):
    code, complaint = refusal({"qc": bundle}, max_candidates="many")
    assert code == 2
    assert "max_candidates" in complaint
    assert '"many"' in complaint


def start_slow_request(pool, url):
    """Send a request and return its future once the service has it in work."""
    body = {"task": "qc", "query": "shoes", "candidates": [f"{i} " + "x" * 60 for i in range(500)]}
    future = pool.submit(httpx.post, url + "/v1/score", json=body, timeout=60)
    while 'queued_tokens{task="qc"} 0.0' in httpx.get(url + "/metrics").text:
        assert not future.done()
        time.sleep(0.005)
    return future


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_before_the_end(slow_bundle, which):
    with concurrent.futures.ThreadPoolExecutor() as pool, running({"qc": slow_bundle}) as process:
        url = process.wait_ready()
        future = start_slow_request(pool, url)
        code = process.end(which)
        answer = future.result()
    assert answer.status_code == 200
    assert len(answer.json()["scores"]) == 500
    assert code == 0
    assert json.loads(process.lines[-1])["event"] == "stopped"


def test_draining_is_not_ready_but_still_scores(bundle):
    with running({"qc": bundle}, drain_seconds=30) as process, httpx.Client(base_url=process.wait_ready()) as client:
        process.child.send_signal(signal.SIGTERM)
        while (answer := client.get("/readyz")).status_code == 200:
            time.sleep(0.005)
        assert answer.status_code == 503
        assert "shutting down" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200
        body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
        assert client.post("/v1/score", json=body).status_code == 200
        assert process.end(signal.SIGTERM) == 0  # a second signal does not wait any longer
