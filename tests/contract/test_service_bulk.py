"""Bulk scoring over JSON lines, against a real process where streaming matters."""

import asyncio
import json
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tasks import Task
from relevance.tokenization import PairTokenizer
from service import bulk
from service.lines import lines_of
from tests.serving import in_process, running
from tests.tiny import tiny_bundle

URL = "/v1/score/bulk?task=qc"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def client(bundle):
    with running({"qc": bundle}, max_bulk_requests=2) as process:
        client = httpx.Client(base_url=process.wait_ready(), timeout=60)
        yield client
        client.close()


def encoded(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def decoded(answer):
    return [json.loads(line) for line in answer.content.splitlines()]


def test_lines_are_scored_in_their_order_as_a_request_scores_them(client):
    candidates = [f"Shoes,{number}" + "x" * (number % 90) for number in range(300)]
    rows = [{"query": "shoes", "candidate": text, "language": "ja", "id": f"n{i}"} for i, text in enumerate(candidates)]
    answer = client.post(URL, content=encoded(rows))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    whole = client.post(
        "/v1/score", json={"task": "qc", "query": "shoes", "candidates": candidates, "language": "ja"}
    ).json()
    found = decoded(answer)
    assert [row["line"] for row in found] == list(range(1, 301))
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["score"] for row in found] == pytest.approx([each["score"] for each in whole["scores"]], abs=1e-5)
    assert [row["label"] for row in found] == [each["label"] for each in whole["scores"]]
    assert [place for place, row in enumerate(found) if row["truncated"]] == whole["truncated"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "Invalid JSON"),
        (b'{"query": "a"}', "candidate: Field required"),
        (b'{"query": "a", "candidate": "b", "langage": "en"}', "langage: Extra inputs"),
        (b'{"query": " ", "candidate": "b"}', "query: blank"),
        (b'{"query": "a", "candidate": ",,"}', "candidate: blank"),
        (b'{"query": "a", "candidate": "\\ud800"}', "Invalid JSON"),
        (b'{"query": "a", "candidate": "' + b"x" * 70_000 + b'"}', "too long"),
        (b'{"query": "a", "candidate": "' + b"x" * 5000 + b'"}', "5000 characters"),
    ],
)
def test_faulty_line_fails_alone(client, line, said):
    good = encoded([{"query": "a", "candidate": "b"}])
    first, faulty, last = decoded(client.post(URL, content=good + line + b"\n\n" + good.rstrip()))
    assert (first["line"], faulty["line"], last["line"]) == (1, 2, 4)
    assert said in faulty["detail"]
    assert faulty["status"] in (413, 422)
    assert first["score"] == last["score"]


def test_nothing_in_gives_nothing_out(client):
    answer = client.post(URL, content=b"")
    assert (answer.status_code, answer.content) == (200, b"")


def test_unknown_and_missing_task_are_problems(client):
    assert client.post("/v1/score/bulk?task=qx", content=b"").json()["reason"] == "unknown_task"
    assert client.post("/v1/score/bulk", content=b"").status_code == 422


def test_bulk_that_is_switched_off_says_so_and_is_not_to_be_tried_again(bundle):
    async def scenario(client, service):
        answer = await client.post(URL, content=encoded([{"query": "shoes", "candidate": "Shoes"}]))
        page = (await client.get("/openapi.json")).json()
        scored = await client.post("/v1/score", json={"task": "qc", "query": "shoes", "candidates": ["Shoes"]})
        metrics = (await client.get("/metrics")).text
        return answer, page["paths"]["/v1/score/bulk"]["post"]["responses"], scored.status_code, metrics

    answer, documented, status, metrics = in_process({Task.QC: bundle}, scenario, max_bulk_requests=0)
    assert (answer.status_code, answer.json()["reason"]) == (403, "bulk_off")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in answer.headers
    assert "switched off" in documented["403"]["description"]
    assert status == 200
    assert 'relevance_rejections_total{reason="bulk_off"} 1.0' in metrics


def test_answers_come_while_lines_are_still_sent(client):
    line = encoded([{"query": "shoes", "candidate": "Shoes"}])
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(f"POST {URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        block = line * 200
        connection.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        received = b""
        while b'"line":100,' not in received:
            piece = connection.recv(65536)
            assert piece
            received += piece
        connection.sendall(b"0\r\n\r\n")
        while b"\r\n0\r\n\r\n" not in received:
            received += connection.recv(65536)
    assert b'"line":200,' in received


def test_everything_may_be_sent_before_anything_is_read(client):
    """Several megabytes in and out over one connection would stop both sides if answers had nowhere to wait."""
    block = encoded([{"query": "shoes", "candidate": f"Shoes,{n}", "id": "i" * 500} for n in range(1000)])
    answer = client.post(URL, content=(block for _ in range(12)))
    assert len(answer.content.splitlines()) == 12_000


def test_caller_that_reads_nothing_gives_its_place_back(bundle):
    impatient = "from service import bulk; bulk.SILENCE_SECONDS = 0.3; from relevance.cli import main; main()"
    block = encoded([{"query": "shoes", "candidate": "Shoes", "id": "i" * 500}] * 1000)
    with running({"qc": bundle}, (sys.executable, "-c", impatient, "serve"), max_bulk_requests=1) as process:
        url = process.wait_ready()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", urlsplit(url).port))
            head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {20 * len(block)}\r\n\r\n"
            connection.sendall(head.encode() + 20 * block)  # some 12 MB: more than the system keeps for a reader
            until = time.monotonic() + 30
            while httpx.post(url + URL, content=b"").status_code == 429:
                assert time.monotonic() < until
                time.sleep(0.05)
            page = httpx.get(url + "/metrics").text
    assert 'relevance_requests_total{route="/v1/score/bulk",status="499"} 1.0' in page


def test_log_line_tells_which_version_answered(bundle, caplog):
    caplog.set_level("INFO", "service.requests")

    async def scenario(http, service):
        return await http.post(URL, content=encoded([{"query": "shoes", "candidate": "Shoes"}]))

    answer = in_process({Task.QC: bundle}, scenario)
    assert caplog.records[-1].version == answer.headers["x-model-version"]


def test_bulk_text_is_tokenised_apart_from_that_of_people_who_wait(bundle, monkeypatch):
    encode, answered, held = PairTokenizer.encode_texts, threading.Event(), []

    def slow_for_bulk(self, texts):
        if any("bulk" in text for text in texts):
            held.append(len(texts))
            answered.wait(20)
        return encode(self, texts)

    async def scenario(http, service):
        monkeypatch.setattr(PairTokenizer, "encode_texts", slow_for_bulk)
        rows = encoded([{"query": "bulk", "candidate": f"bulk {number} " + "x" * 50} for number in range(600)])
        jobs = [asyncio.create_task(http.post(URL, content=rows)) for _ in range(3)]
        while not held:
            await asyncio.sleep(0.01)
        people = {"task": "qc", "query": "shoes", "candidates": [f"{number} " + "x" * 50 for number in range(100)]}
        answer = await asyncio.wait_for(http.post("/v1/score", json=people), 10)
        answered.set()
        return answer.status_code, [len(decoded(await job)) for job in jobs]

    assert in_process({Task.QC: bundle}, scenario) == (200, [600] * 3)


def test_bulk_requests_over_the_cap_are_refused(client):
    address = urlsplit(str(client.base_url))
    held = [socket.create_connection((address.hostname, address.port), timeout=20) for _ in range(2)]
    try:
        for connection in held:
            connection.sendall(f"POST {URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        answer = client.post(URL, content=b"")
        assert (answer.status_code, answer.json()["reason"]) == (429, "too_many_requests")
        assert client.post("/v1/score", json={"task": "qc", "query": "a", "candidates": ["b"]}).status_code == 200
    finally:
        for connection in held:
            connection.close()
    while client.post(URL, content=b"").status_code == 429:
        pass  # the service sees the closed connections


def test_failed_run_is_told_line_by_line(bundle):
    async def scenario(http, service):
        engine = service.models[Task.QC].engine
        whole = engine.tokenizer.collate
        engine.tokenizer.collate = lambda *how: {name: array[:, :0] for name, array in whole(*how).items()}
        return await http.post(URL, content=encoded([{"query": "a", "candidate": "b", "id": 7}]))

    (line,) = decoded(in_process({Task.QC: bundle}, scenario))
    assert (line["line"], line["id"], line["status"], line["reason"]) == (1, 7, 500, "scoring_failed")


@given(st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b), max_size=12), st.integers(1, 7))
def test_lines_are_the_same_whatever_pieces_they_come_in(lines, size):
    data = b"\n".join(lines)

    async def pieces():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def collect():
        return [line async for line in lines_of(pieces(), limit=8)]

    expected = [(i, line[:8], len(line) > 8) for i, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    found = [(line.number, line.content, line.too_long) for line in asyncio.run(collect())]
    assert found == expected


def test_spool_that_cannot_be_written_ends_the_request(bundle, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bulk._Spool, "write", full)

    async def scenario(http, service):
        rows = encoded([{"query": "a", "candidate": f"b{number}"} for number in range(2000)])
        with pytest.raises(AssertionError):  # httpx: the answer broke off
            await asyncio.wait_for(http.post(URL, content=rows), 10)
        return service.bulk_in_work

    assert in_process({Task.QC: bundle}, scenario) == 0


def test_reading_stops_while_the_spool_is_full(bundle, monkeypatch):
    monkeypatch.setattr(bulk, "MOST_SPOOL_BYTES", 100)

    async def scenario(http, service):
        rows = encoded([{"query": "a", "candidate": f"b{number}"} for number in range(2000)])
        return await asyncio.wait_for(http.post(URL, content=rows), 20)

    assert [row["line"] for row in decoded(in_process({Task.QC: bundle}, scenario))] == list(range(1, 2001))


def test_caller_that_goes_away_leaves_nothing_behind(bundle):
    async def scenario(http, service):
        sent = [{"type": "http.disconnect"}]
        sent.append({"type": "http.request", "body": encoded([{"query": "a", "candidate": "b"}] * 1000)[:-5]})
        sent[-1]["more_body"] = True
        answers = []

        async def receive():
            return sent.pop()

        async def send(message):
            answers.append(message["type"])

        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST"}
        scope |= {"path": "/v1/score/bulk", "raw_path": b"/v1/score/bulk", "query_string": b"task=qc"}
        scope |= {"scheme": "http", "root_path": "", "headers": [], "client": ("t", 1), "server": ("t", 80)}
        before = asyncio.all_tasks()
        await http._transport.app(scope, receive, send)
        await asyncio.sleep(0.05)
        page = (await http.get("/metrics")).text
        assert 'relevance_requests_total{route="/v1/score/bulk",status="499"} 1.0' in page
        assert 'relevance_rejections_total{reason="client_gone"} 1.0' in page
        return answers.count("http.response.start"), service.bulk_in_work, asyncio.all_tasks() - before

    assert in_process({Task.QC: bundle}, scenario) == (1, 0, set())
