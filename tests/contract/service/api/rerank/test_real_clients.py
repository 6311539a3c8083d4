"""Real clients of other rerankers against the real service, two models served; see tests/clients."""

import json
import os
import shutil
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from relevance.model.bundle import Bundle
from relevance.tasks import Pair
from service.runtime.session import Engine
from tests import ROOT
from tests.serving import running

CLIENTS = ROOT / "tests" / "clients"
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
QUIET = {  # no client may call home, or look anything up
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "127.0.0.1",
}
QUERY = "wireless earphones"
DOCUMENTS = ["Red ceramic cup", "", "Bluetooth earphones", " ".join(f"shoe{n}" for n in range(900)), "椅子 🪑", " \n"]
CASES = {
    "cohere_client.py": {"async", "v2", "v1", "v1 fields"},
    "langchain_client.py": {"cohere", "jina"},
    "llama_index_client.py": {"cohere", "tei", "jina"},
    "haystack_client.py": {"cohere", "tei", "jina"},
    "litellm_client.py": {"cohere v2", "cohere v1", "jina", "tei", "infinity", "vllm"},
}
needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-clients (make clients)")


@pytest.fixture(scope="module")
def url(bundles):
    with running(bundles) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def lone_url(bundles):
    with running({"qi": bundles["qi"]}) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def expected(bundles):
    """The scores of DOCUMENTS, blank ones 0."""
    engine = Engine(Bundle.open(bundles["qi"]))
    manifest = engine.bundle.manifest
    tokenized = engine.inputs.encode([Pair(QUERY, text) for text in DOCUMENTS])
    scores = manifest.scores([engine.logits([each])[0] for each in tokenized]).tolist()
    return [score if text.strip() else 0.0 for score, text in zip(scores, DOCUMENTS, strict=True)]


def ran(python, script, url, lone_url):
    given = json.dumps({"query": QUERY, "documents": DOCUMENTS})
    command = [python, CLIENTS / "loopback.py", CLIENTS / script, url, lone_url, given]
    done = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(found, expected, case=""):
    order = sorted(range(len(expected)), key=lambda place: -expected[place])
    assert [place for place, _ in found] == order, case
    assert [score for _, score in found] == pytest.approx([expected[place] for place in order], abs=1e-5), case


@needs_clients
@pytest.mark.parametrize("script", CASES)
def test_client_ranks_by_the_model_of_its_base_url(url, lone_url, expected, script):
    answer = ran(PYTHON, script, f"{url}/models/qi", lone_url)
    assert answer["cases"].keys() == CASES[script]
    for case, found in answer["cases"].items():
        check(found, expected, case)


def test_newest_cohere_client_ranks(url, lone_url, expected):
    pytest.importorskip("cohere", reason="needs the package cohere")
    answer = ran(sys.executable, "cohere_client.py", f"{url}/models/qi", lone_url)
    assert answer["version"].startswith("7.")
    assert answer["cases"].keys() == CASES["cohere_client.py"] | {"v2 spans"}
    for found in answer["cases"].values():
        check(found, expected)


@needs_clients
def test_kserve_client_reads_health(url):
    assert ran(PYTHON, "kserve_client.py", url, url)["cases"] == {
        "live": True,
        "ready": True,
        "model": True,
        "other model": False,
    }


@needs_clients
def test_triton_client_infers_by_binary_and_json_tensors(url, expected):
    cases = ran(PYTHON, "triton_client.py", url, url)["cases"]
    texts = [(place, expected[place]) for place in (0, 2, 4)]  # the others are blank or too long for this route
    order = sorted(texts, key=lambda each: -each[1])
    for case in ("binary", "json", "by version", "compressed"):
        assert [place for place, _ in cases[case]] == [place for place, _ in order], case
        assert [score for _, score in cases[case]] == pytest.approx([score for _, score in order], abs=1e-5), case
    assert cases["refusal"] == "candidate[0]: blank, expected text"
    assert cases["ready"]
    assert cases["inputs"] == ["query", "candidate", "language"]


@pytest.mark.skipif(shutil.which("java") is None, reason="needs java")
def test_java_client_ranks(url, expected):
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS})
    command = ["java", CLIENTS / "Rerank.java", f"{url}/models/qi/v2/rerank", body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    version, status, answer = done.stdout.splitlines()
    assert (version, status) == ("HTTP_1_1", "200"), answer
    check([(each["index"], each["relevance_score"]) for each in json.loads(answer)["results"]], expected)


def test_java_clients_request_is_answered(url, expected):
    """What Java 17's HttpClient sends, byte for byte but for the address."""
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()
    address = urlsplit(url)
    head = (
        f"POST /models/qi/v2/rerank HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {len(body)}\r\n"
        f"Host: {address.netloc}\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
        "User-Agent: Java-http-client/17.0.15\r\nContent-Type: application/json\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    check([(each["index"], each["relevance_score"]) for each in json.loads(content)["results"]], expected)
