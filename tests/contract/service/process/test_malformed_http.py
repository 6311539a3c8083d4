"""Requests that are no HTTP, and connections on which nothing moves, against a real process."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
import sys
import time
import weakref
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from service.process.http_protocol import GuardedConnection, IdleConnections
from tests.malformed import SCORE, chunked, malformed, post, send_all
from tests.serving import running

BATCH, BATCHES = 80, 6


@pytest.fixture(scope="module")
def process(bundle):
    with running({"qc": bundle}, threads=1, log_level="DEBUG") as process:
        process.wait_ready()
        yield process


@pytest.fixture
def address(process):
    url = urlsplit(process.wait_ready())
    return url.hostname, url.port


@pytest.fixture
def client(process):
    with httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        yield client


def no_faults(process):
    faults = [line for line in process.lines if '"traceback"' in line or not line.startswith("{")]
    return not faults and process.child.poll() is None


@pytest.mark.parametrize("seed", range(BATCHES))
def test_malformed_requests_neither_break_nor_stop_the_service(process, address, client, seed, record_property):
    expected = client.post("/v1/score", json=SCORE).json()
    seen = asyncio.run(send_all(*address, list(malformed(seed, BATCH))))
    record_property("inputs", BATCH)
    record_property("statuses", json.dumps(seen))
    assert not [status for status in seen if status.startswith("5")], seen
    assert {"200", "400", "422"} <= seen.keys()
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/score", json=SCORE).json() == expected
    assert no_faults(process)


def exchange(address, *pieces, seconds=10.0):
    """Send pieces over one connection and return all that comes back until the service closes it."""
    found = b""
    with socket.create_connection(address, timeout=seconds) as link:
        with contextlib.suppress(ConnectionError):  # the answer may come, and the end, before all is sent
            for piece in pieces:
                link.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while piece := link.recv(65536):
                found += piece
    return found


CLOSE = b"Connection: close"
BODY = json.dumps(SCORE).encode()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000,
        b"GET /healthz HTTP/1.1\r\n" + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        post("/v1/score", BODY, *[b"X-%d: y" % n for n in range(200)]),
        post("/v1/score", chunked([BODY])[:-2] + b"T: x\r\n" * 200 + b"\r\n", b"Transfer-Encoding: chunked"),
        post("/v1/score", b"3;" + b"x" * 1_000_000, b"Transfer-Encoding: chunked"),
    ],
    ids=["value", "name", "path", "lines", "trailers", "extension"],
)
def test_headers_over_the_limit_are_refused(process, address, request_bytes):
    assert exchange(address, request_bytes).startswith(b"HTTP/1.1 431 ")
    assert no_faults(process)


def test_headers_up_to_the_limit_are_read(address):
    lines = [b"X-%d: y" % n for n in range(100)]
    assert exchange(address, post("/v1/score", BODY, CLOSE, *lines)).startswith(b"HTTP/1.1 200 ")
    long = b"Cookie: " + b"a" * 30_000
    assert exchange(address, post("/v1/score", BODY, CLOSE, long)).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_their_order(address):
    requests = b"".join(post("/v1/score", BODY, b"X-Request-Id: n%d" % n) for n in range(20))
    found = exchange(address, requests + post("/v1/score", BODY, CLOSE))
    assert found.count(b"HTTP/1.1 200 ") == 21
    places = [found.index(b"x-request-id: n%d\r" % n) for n in range(20)]
    assert places == sorted(places)


@pytest.mark.parametrize("invalid", [b"NONSENSE\r\n\r\n", b"GET /" + b"a" * 3_000_000, b"GET / HTTP/1.1\r\nX\r\n\r\n"])
def test_what_was_asked_before_an_invalid_request_is_answered(address, invalid):
    found = exchange(address, post("/v1/score", BODY) * 3 + invalid)
    assert (found.count(b"HTTP/1.1 200 "), found.count(b"HTTP/1.1 ")) == (3, 3)


@pytest.mark.parametrize(
    "trailer", [b"X-Relevance-Model: nobody", b"Content-Encoding: gzip", b"X-Request-Timeout-Ms: x", b"Expect: nothing"]
)
def test_trailer_does_not_act_as_a_header(address, trailer):
    body = chunked([BODY])[:-2] + trailer + b"\r\n\r\n"
    assert exchange(address, post("/v1/score", body, b"Transfer-Encoding: chunked", CLOSE)).startswith(b"HTTP/1.1 200 ")


def test_body_in_many_small_chunks_does_not_count_as_headers(address):
    pieces = [BODY[n : n + 1] for n in range(len(BODY))]
    blank = [b" "] * 30_000  # some 180 kB of framing
    found = exchange(address, post("/v1/score", chunked([*pieces, *blank]), b"Transfer-Encoding: chunked", CLOSE))
    assert found.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("depth", [*range(880, 1000, 3), 3000])
def test_deep_json_is_never_a_fault(client, depth):
    nested = "[" * depth + "]" * depth
    for path, body in (
        ("/v1/rerank", '{"query": "q", "documents": [{"text": "a", "x": %s}], "return_documents": true}'),
        ("/v2/rerank", '{"query": "q", "documents": [{"text": "a", "x": %s}]}'),
        ("/predict", '{"inputs": %s}'),
        ("/v1/score", '{"task": "qc", "query": "q", "candidates": %s}'),
    ):
        answer = client.post(path, content=body % nested, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400, 422), answer.text
    answer = client.post("/v1/score/bulk?task=qc", content=f'{{"query": "a", "candidate": {nested}}}')
    assert json.loads(answer.text)["status"] == 422


def send_for(link, request, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        link.sendall(request)


def test_a_caller_that_reads_nothing_is_cut_off(bundle):
    code = "from service.process import http_protocol as h; h.SILENCE_SECONDS = 1; "
    code += "from relevance.cli import main; main()"
    document = {"text": "cup", "x": "y" * 1_000_000}
    body = json.dumps({"query": "cup", "documents": [document], "return_documents": True}).encode()
    request = post("/v1/rerank", body)
    with running({"qc": bundle}, command=[sys.executable, "-c", code, "serve"]) as process:
        url = urlsplit(process.wait_ready())
        with socket.create_connection((url.hostname, url.port), timeout=20) as link, pytest.raises(ConnectionError):
            send_for(link, request, seconds=60)  # a time-out would be another error
        assert httpx.get(process.wait_ready() + "/readyz").status_code == 200
        assert no_faults(process)


def test_slow_headers_and_idle_connections_are_cut_off(bundle):
    code = "from service.process import http_protocol as h; h.HEADER_SECONDS = 0.5; "
    code += "from relevance.cli import main; main()"
    command = [sys.executable, "-c", code, "serve"]
    with running({"qc": bundle}, command=command, keep_alive_seconds=1) as process:
        url = urlsplit(process.wait_ready())
        address = (url.hostname, url.port)
        for pieces in ([b"GET /healthz HT"], [post("/v1/score", BODY)[:60]], [b""]):
            began = time.monotonic()
            assert exchange(address, *pieces) == b""
            assert 0.3 < time.monotonic() - began < 15  # without the setting it takes 20
        with socket.create_connection(address, timeout=10) as link:  # on a connection that has served already
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            found = b""
            while b"alive" not in found:
                found += (piece := link.recv(65536))
                assert piece
            link.sendall(b"GET /heal")
            assert link.recv(65536) == b""
        with httpx.Client(base_url=process.wait_ready()) as client:
            for _ in range(3):
                assert client.get("/healthz").status_code == 200
                time.sleep(0.6)
        assert no_faults(process)


def test_connection_that_was_reset_is_not_kept_in_memory():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def run():
        gone = []

        def connection(*args, **options):
            made = GuardedConnection(*args, idle=IdleConnections(100), **options)
            gone.append(weakref.ref(made))
            return made

        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", http=connection, ws="none", timeout_keep_alive=600))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""):  # kept alive, and not yet used
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(request)
                await (reader.readuntil(b"\r\n\r\n") if request else asyncio.sleep(0.1))
                link = writer.get_extra_info("socket")
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, as HAProxy does
                writer.transport.abort()
            async with asyncio.timeout(60):
                while server.server_state.connections or len(gone) < 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            gc.collect()
            left = [each() for each in gone if each() is not None]
            server.should_exit = True
            await serving
        return left

    assert asyncio.run(run()) == []


def test_idle_connections_are_bounded_and_the_oldest_is_closed_first(bundle):
    with running({"qc": bundle}, max_idle_connections=3) as process:
        url = urlsplit(process.wait_ready())
        with contextlib.ExitStack() as stack:
            links = []
            for _ in range(3):
                links.append(stack.enter_context(socket.create_connection((url.hostname, url.port), timeout=20)))
                assert still_answers(links[-1])
            assert still_answers(links[0])  # so the second has waited longest
            links.append(stack.enter_context(socket.create_connection((url.hostname, url.port), timeout=20)))
            assert still_answers(links[3])
            assert links[1].recv(1) == b""
            assert all(still_answers(links[n]) for n in (0, 2, 3))


def still_answers(link):
    link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    found = b""
    while b"alive" not in found:
        found += (piece := link.recv(65536))
        if not piece:
            return False
    return True
