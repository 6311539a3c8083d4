"""`relevance serve` as a process: what it refuses to start with, and how it ends."""

import concurrent.futures
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from relevance.errors import MachineError
from service.auth.key_file import entry
from service.settings import Settings
from tests.faulty import BREAK_RUNS, command
from tests.serving import Process, running

JSON = {"content-type": "application/json"}
QUEUED = re.compile(r'relevance_queued_tokens\{priority="interactive",task="qc"\} (\S+)')


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """A file that a service of `command("gated")` waits for before each run."""
    monkeypatch.setenv("TESTS_GATE", str(tmp_path / "gate"))
    return tmp_path / "gate"


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


def test_port_in_use_is_refused(tmp_path):
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


def start_request(pool, url):
    """Send a request to a gated service and return its future once its pairs are in the scheduler."""
    body = {"task": "qc", "query": "shoes", "candidates": [f"{i} " + "x" * 60 for i in range(500)]}
    future = pool.submit(httpx.post, url + "/v1/score", json=body, timeout=120)
    while not (found := re.search(QUEUED, httpx.get(url + "/metrics").text)) or float(found[1]) == 0:
        assert found
        assert not future.done()
        time.sleep(0.005)
    return future


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_before_the_end(bundle, gate, which):
    with concurrent.futures.ThreadPoolExecutor() as pool, running({"qc": bundle}, command("gated")) as process:
        url = process.wait_ready()
        future = start_request(pool, url)
        process.child.send_signal(which)
        while not any(': draining"' in line for line in process.lines):
            time.sleep(0.005)
        assert not future.done()
        gate.touch()
        code = process.end()
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


def test_answers_while_draining_close_their_connection(bundle):
    with running({"qc": bundle}, drain_seconds=30) as process, httpx.Client(base_url=process.wait_ready()) as client:
        assert "connection" not in client.get("/healthz").headers
        process.child.send_signal(signal.SIGTERM)
        while (answer := client.get("/readyz")).status_code == 200:
            time.sleep(0.005)
        assert answer.headers["connection"] == "close"
        assert client.get("/healthz").headers["connection"] == "close"
        assert process.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/bulk?task=qc"])
def test_what_the_end_cuts_off_is_draining_and_no_caller_gone(bundle, tmp_path, monkeypatch, path):
    monkeypatch.setenv("TESTS_GATE", str(tmp_path / "never"))
    body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]} if path == "/v1/score" else {}
    line = json.dumps(body or {"query": "shoes", "candidate": "Shoes"})
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        running({"qc": bundle}, command("gated"), finish_seconds=0) as process,
    ):
        url = process.wait_ready()
        future = pool.submit(httpx.post, url + path, content=line, headers=JSON, timeout=60)
        while not re.search(r'queued_tokens{priority="\w+",task="qc"} [1-9]', httpx.get(url + "/metrics").text):
            time.sleep(0.005)
        process.end(signal.SIGINT)
        failure = future.exception()
    if path == "/v1/score":
        answer = future.result()
        assert (answer.status_code, answer.json()["reason"]) == (503, "draining")
        assert answer.headers["connection"] == "close"
    else:
        assert isinstance(failure, httpx.RemoteProtocolError)  # it had begun
    lines = [json.loads(line) for line in process.lines if '"request"' in line and "/v1/score" in line]
    assert [(line["status"], line["reason"]) for line in lines] == [(503, "draining")]


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/bulk?task=qc"])
def test_a_panic_of_the_tokeniser_is_counted_as_a_fault(bundle, path):
    body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
    line = json.dumps(body if path == "/v1/score" else {"query": "shoes", "candidate": "Shoes"})
    with running({"qc": bundle}, command("panicking")) as process:
        url = process.wait_ready()
        with contextlib.suppress(httpx.RemoteProtocolError):  # of lines the answer had begun
            answer = httpx.post(url + path, content=line, headers=JSON, timeout=60)
            assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
        page = httpx.get(url + "/metrics").text
    route = path.partition("?")[0]
    assert f'relevance_requests_total{{route="{route}",status="500"}} 1.0' in page
    assert f'relevance_requests_total{{route="{route}",status="499"}} 0.0' in page


@pytest.mark.parametrize("concurrent_runs", [1, 2])
def test_session_that_fails_from_now_on_fails_the_health_check(bundle, concurrent_runs):
    body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
    with (
        running({"qc": bundle}, command("breaking"), concurrent_runs=concurrent_runs, max_failed_runs=4) as process,
        httpx.Client(base_url=process.wait_ready(), timeout=30) as client,
    ):
        statuses, health = [], []
        while not health or health[-1] == 200:
            statuses.append(client.post("/v1/score", json=body).status_code)
            health.append(client.get("/healthz").status_code)
            assert len(health) < 20
        ready = client.get("/readyz")
        assert statuses[:BREAK_RUNS] == [200] * BREAK_RUNS
        assert statuses[BREAK_RUNS:] == [500] * 4
        assert health == [200] * (len(health) - 1) + [503]
        assert (ready.status_code, ready.json()["detail"]) == (503, "qc: the last 4 model runs failed")
        assert client.get("/v2/health/live").status_code == 503


@pytest.mark.parametrize("fault", ["breaking", "dying"])
def test_a_service_that_can_score_no_more_ends_itself(bundle, fault):
    body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
    with running({"qc": bundle}, command(fault), end_when_dead_seconds=0.5) as process:
        url = process.wait_ready()
        while process.child.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(url + "/v1/score", json=body, timeout=60)
        assert process.end() == MachineError.exit_code
    assert process.lines[-1] == "error: a model can no longer score; see the log"


def test_stalled_upload_gives_its_place_back(bundle):
    head = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    with running({"qc": bundle}, max_requests=1) as process:
        url = process.wait_ready()
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=20) as connection:
            connection.sendall(head + b"X-Request-Timeout-Ms: 100\r\n\r\n{")
            assert connection.recv(1000).startswith(b"HTTP/1.1 504")
            body = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
            assert httpx.post(url + "/v1/score", json=body).status_code == 200


def test_unknown_variables_are_logged(bundle):
    link = {"service_host": "10.0.0.1", "port_8080_tcp_addr": "10.0.0.1", "port_8080_tcp": "tcp://10.0.0.1:8080"}
    with running({"qc": bundle}, max_candidats=5, **link) as process:
        process.wait_ready()
    warnings = [json.loads(line)["event"] for line in process.lines if '"WARNING"' in line]
    hint = "did you mean RELEVANCE_MAX_CANDIDATES"
    assert len(warnings) == 1
    assert warnings[0].startswith(f"RELEVANCE_MAX_CANDIDATS is no setting of the service and is ignored; {hint}")


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ({"host": "0.0.0.0"}, ["WARNING"]),
        ({"host": "::"}, ["WARNING"]),
        ({"host": "localhost"}, ["INFO"]),
        ({"host": "0.0.0.0", "api_keys": "keys.toml"}, []),
    ],
)
def test_service_that_others_reach_without_keys_warns(bundle, tmp_path, settings, levels):
    if "api_keys" in settings:
        settings = settings | {"api_keys": tmp_path / "keys.toml"}
        settings["api_keys"].write_text(entry("caller", "secret", ["score"]))
    with running({"qc": bundle}, **settings) as process:
        process.wait_ready()
    told = [json.loads(line) for line in process.lines]
    assert [line["level"] for line in told if "no API keys are set" in line["event"]] == levels


def test_log_is_text_on_a_terminal_and_json_elsewhere(bundle):
    with running({"qc": bundle}, log_format="text") as process:
        while process.child.poll() is None and not any("ready at http://" in line for line in process.lines):
            time.sleep(0.02)
    ready = next(line for line in process.lines if "ready at" in line)
    assert re.fullmatch(r'\d\d:\d\d:\d\d ready at http://127\.0\.0\.1:\d+  tasks=\["qc"\]', ready), ready


def test_terminal_gets_text():
    code = "import logging; from service.observability.logs import configure_logging; "
    code += "configure_logging('INFO'); logging.warning('hello')"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    assert os.read(ours, 1000).decode().endswith("WARNING: hello\r\n")
    piped = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=True)
    assert json.loads(piped.stderr)["event"] == "hello"
    os.close(ours)
    os.close(theirs)


def test_port_variable_of_kubernetes_is_ignored(monkeypatch):
    monkeypatch.setenv("RELEVANCE_PORT", "tcp://10.0.0.1:8080")
    assert Settings.build().port == 8080
    assert Settings.build(port=9).port == 9


def test_callers_that_hang_up_leave_nothing_behind(slow_bundle):
    body = json.dumps({"task": "qc", "query": "shoes", "candidates": [f"{i} " + "x" * 60 for i in range(20)]}).encode()
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with running({"qc": slow_bundle}) as process:
        url = process.wait_ready()
        port = int(url.rsplit(":", 1)[1])
        for number in range(30):  # hang up in the body, after it, and with others' work in the same runs
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head.encode() + body[: len(body) // (1 + number % 2)])
                if number % 3 == 0:
                    assert httpx.post(url + "/v1/score", content=body, headers=JSON, timeout=60).status_code == 200
        until = time.monotonic() + 120
        while 'queued_tokens{priority="interactive",task="qc"} 0.0' not in (page := httpx.get(url + "/metrics").text):
            assert time.monotonic() < until
        assert httpx.get(url + "/readyz").status_code == 200
        answer = httpx.post(url + "/v1/score", content=body, headers=JSON, timeout=60)
    assert answer.status_code == 200
    assert 'relevance_dropped_requests_total{task="qc",why="caller_gone"} 0.0' not in page


def test_refusal_of_an_unread_body_leaves_the_connection_usable(bundle, gate):
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        running({"qc": bundle}, command("gated"), max_queued_tokens=1000) as process,
        httpx.Client(base_url=process.wait_ready(), timeout=60) as client,
    ):
        future = start_request(pool, process.wait_ready())
        answers = [client.post("/v1/score", content=b" " * 1_500_000, headers=JSON) for _ in range(3)]
        health = client.get("/healthz")
        gate.touch()
        assert future.result().status_code == 200
    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [(429, "overloaded")] * 3
    assert health.status_code == 200
