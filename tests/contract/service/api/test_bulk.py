"""Bulk scoring over JSON lines, against a real process where streaming matters."""

import asyncio
import contextlib
import gc
import json
import socket
import threading
import weakref
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.client import BULK_ROWS
from relevance.tasks import Task
from relevance.text.tokenization import PairTokenizer
from service.api.app import create_app
from service.api.bulk import job
from service.api.bulk.bulk_lines import Answer
from service.api.bulk.line_reader import BYTE_ORDER_MARK, lines_of
from service.api.bulk.minimum_rate import Pace
from service.api.bulk.spool import Spool
from service.errors import InvalidRequestError
from service.settings import Settings
from tests.serving import in_process, running
from tests.tiny import tiny_bundle

URL = "/v1/score/bulk?task=qc"


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
        (b'{"query": "a", "candidate": "b", "langage": "en"}', "langage: unknown key"),
        (b'{"query": " ", "candidate": "b"}', "query: blank"),
        (b'{"query": "a", "candidate": ",,"}', "candidate: blank"),
        (b'{"query": "a", "candidate": "\\ud800"}', "half of a surrogate pair"),
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


def connected(url, received_bytes=0):
    """Connect to the service; with `received_bytes`, the system keeps hardly more than that for a reader."""
    address = urlsplit(str(url))
    connection = socket.socket()
    connection.settimeout(30)
    if received_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received_bytes)
    connection.connect((address.hostname, address.port))
    return connection


def read_all(connection):
    received = b""
    while piece := connection.recv(65536):
        received += piece
        if received.endswith(b"0\r\n\r\n"):
            break
    return received


def counted(url, status):
    page = httpx.get(f"{url}/metrics").text
    return float(page.split(f'relevance_requests_total{{route="/v1/score/bulk",status="{status}"}} ')[1].split("\n")[0])


CHUNKED = f"POST {URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
SPOOL = 1024 * 1024


def test_caller_that_sends_all_and_reads_nothing_ends_with_a_line_that_says_so(bundle, tmp_path, monkeypatch):
    """It fills its spool and no more: neither a disk nor the memory of others. Error lines count as all others do."""
    content = b"x\n" * (2 * 1024 * 1024)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    settings = {"max_bulk_requests": 1, "bulk_spool_bytes": SPOOL, "bulk_silence_seconds": 0.5}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running({"qc": bundle}, **settings) as process, connected(process.wait_ready(), 4096) as connection:
        url = process.wait_ready()
        before = resident(url)
        sending = threading.Thread(target=connection.sendall, args=(head + content,))
        sending.start()
        while httpx.post(url + URL, content=b"").status_code == 429:
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert sum(each.stat().st_size for each in tmp_path.rglob("*")) < SPOOL // 8
            assert resident(url) - before < 64 * 1024 * 1024
        received = read_all(connection)
        sending.join()
        while not counted(url, 408):
            pass
    last = json.loads(received.split(b"\r\n")[-4].splitlines()[-1])
    assert (last["status"], last["reason"]) == (408, "too_slow")
    assert received.count(b'"status":422') == last["line"] - 1
    assert "expected 100 bytes/s" in last["detail"]


def resident(url):
    page = httpx.get(f"{url}/metrics").text
    return float(page.split("\nrelevance_resident_memory_bytes ")[1].split("\n")[0])


def test_caller_that_drips_bytes_loses_its_place(bundle):
    settings = {"max_bulk_requests": 1, "bulk_silence_seconds": 0.5, "bulk_min_bytes_per_second": 1000}
    with running({"qc": bundle}, **settings) as process, connected(process.wait_ready()) as connection:
        connection.sendall(CHUNKED)
        received = connection.recv(65536)
        while b"too_slow" not in received:  # a byte and its framing each time: far from 1000 bytes a second
            connection.sendall(b"1\r\nx\r\n")
            connection.settimeout(0.05)
            try:
                received += connection.recv(65536)
            except TimeoutError:
                continue
        assert httpx.post(process.wait_ready() + URL, content=b"").status_code == 200


def test_caller_that_reads_by_drips_loses_its_place(bundle):
    settings = {"max_bulk_requests": 1, "bulk_silence_seconds": 0.5, "bulk_min_bytes_per_second": 1e6}
    settings["bulk_spool_bytes"] = SPOOL
    block = encoded([{"query": "shoes", "candidate": "Shoes", "id": "i" * 500}] * 1000)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {20 * len(block)}\r\n\r\n"
    with running({"qc": bundle}, **settings) as process, connected(process.wait_ready(), 4096) as connection:
        url = process.wait_ready()
        threading.Thread(target=send_what_is_taken, args=(connection, head.encode() + 20 * block), daemon=True).start()
        while httpx.post(url + URL, content=b"").status_code == 429:
            assert connection.recv(1)


def send_what_is_taken(connection, content):
    with contextlib.suppress(OSError):
        connection.sendall(content)


def test_log_line_tells_which_version_answered(bundle, caplog):
    caplog.set_level("INFO", "service.requests")

    async def scenario(http, service):
        return await http.post(URL, content=encoded([{"query": "shoes", "candidate": "Shoes"}]))

    answer = in_process({Task.QC: bundle}, scenario)
    assert caplog.records[-1].version == answer.headers["x-model-version"]


def test_bulk_text_does_not_delay_the_tokenising_of_interactive_requests(bundle, monkeypatch):
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


def test_failed_run_is_an_error_on_each_of_its_lines(bundle):
    async def scenario(http, service):
        engine = service.models[Task.QC].stages[0].engine
        whole = engine.tokenizer.collate
        engine.tokenizer.collate = lambda *how: {name: array[:, :0] for name, array in whole(*how).items()}
        return await http.post(URL, content=encoded([{"query": "a", "candidate": "b", "id": 7}]))

    (line,) = decoded(in_process({Task.QC: bundle}, scenario))
    assert (line["line"], line["id"], line["status"], line["reason"]) == (1, 7, 500, "scoring_failed")


@given(
    st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b), max_size=12),
    st.integers(1, 7),
    st.sampled_from([b"", BYTE_ORDER_MARK]),
)
def test_lines_are_the_same_whatever_pieces_they_come_in(lines, size, mark):
    data = mark + b"\n".join(lines)

    async def pieces():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def collect():
        return [line async for line in lines_of(pieces(), limit=8)]

    numbered = enumerate(data.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1)
    expected = [(i, line[:8], len(line) > 8) for i, line in numbered if line.strip() or len(line) > 8]
    found = [(line.number, line.content, line.too_long) for line in asyncio.run(collect())]
    assert found == expected


SCOPE = {
    **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"},
    **{"path": "/v1/score/bulk", "raw_path": b"/v1/score/bulk", "query_string": b"task=qc", "root_path": ""},
    **{"headers": [], "client": ("t", 1), "server": ("t", 80)},
}


class Caller:
    """A caller over bare ASGI: it sends what is put into `to_send`, and reads once `reads` is set."""

    def __init__(self):
        self.to_send, self.reads, self.types, self.content = asyncio.Queue(), asyncio.Event(), [], b""
        self.reads.set()

    def put(self, body, more_body=True):
        self.to_send.put_nowait({"type": "http.request", "body": body, "more_body": more_body})

    async def send(self, message):
        if message["type"] == "http.response.body":
            await self.reads.wait()
        self.types.append(message["type"])
        self.content += message.get("body", b"")

    def call(self, app):
        return asyncio.create_task(app(dict(SCOPE), self.to_send.get, self.send))

    @property
    def answers(self):
        return [json.loads(line) for line in self.content.splitlines()]


def bare(bundle, scenario, **settings):
    """Run a scenario on the app and its service, in this process."""

    async def run():
        app = create_app(Settings(**settings), {Task.QC: bundle})
        async with app.router.lifespan_context(app):
            await app.state.service.settled.wait()
            return await scenario(app, app.state.service)

    return asyncio.run(run())


def close_gate(service):
    """Let every model run wait until the event that is returned is set."""
    go_on, scheduler = threading.Event(), service.models[Task.QC].stages[0].scheduler
    run = scheduler._run
    scheduler._run = lambda pairs, width: go_on.wait(30) and run(pairs, width)
    return go_on


async def until(condition):
    async with asyncio.timeout(60):  # far longer than it takes: a fault is reported at once
        while not condition():
            await asyncio.sleep(0.005)


def test_caller_that_goes_away_leaves_nothing_behind(bundle):
    async def scenario(app, service):
        before = asyncio.all_tasks()
        caller = Caller()
        caller.put(encoded([{"query": "a", "candidate": "b"}] * 1000)[:-5])
        caller.to_send.put_nowait({"type": "http.disconnect"})
        await caller.call(app)
        left = asyncio.all_tasks() - before
        if left:
            await asyncio.wait(left, timeout=20)
        requests = service.metrics.requests.labels("/v1/score/bulk", "499")._value.get()
        gone = service.metrics.rejections.labels("client_gone")._value.get()
        return caller.types.count("http.response.start"), service.bulk_in_work, requests, gone

    assert bare(bundle, scenario) == (1, 0, 1, 1)


def test_reading_stops_while_the_spool_is_full_and_goes_on_when_answers_are_read(bundle, monkeypatch):
    """However small lines are, and however large their answers, no more than the spool waits."""
    lines = encoded([{"query": "a", "candidate": "b", "id": "i" * 5000}] * 26)
    blocks, spools = 40, []  # 5 MB
    monkeypatch.setattr(job, "Spool", lambda limit: spools.append(Spool(limit)) or spools[-1])

    async def scenario(app, service):
        caller = Caller()
        caller.reads.clear()
        for number in range(blocks):
            caller.put(lines, more_body=number < blocks - 1)
        calling = caller.call(app)
        await until(lambda: spools and spools[0].waiting_bytes > SPOOL - 2 * job.PIECE_BYTES)
        for _ in range(1000):
            await asyncio.sleep(0)
        taken = blocks - caller.to_send.qsize()
        assert spools[0].waiting_bytes <= SPOOL
        caller.reads.set()
        await calling
        return taken * len(lines), [answer["line"] for answer in caller.answers]

    taken, answered = bare(bundle, scenario, bulk_spool_bytes=SPOOL)
    assert taken < SPOOL + (job.CHUNKS_AHEAD + 4) * job.CHUNK_BYTES
    assert answered == list(range(1, 26 * blocks + 1))


def test_caller_that_waits_for_the_model_is_not_too_slow(bundle, monkeypatch):
    looks = []

    async def scenario(app, service):
        run_out = Pace.seconds_left.fget
        monkeypatch.setattr(Pace, "seconds_left", property(lambda self: looks.append(run_out(self)) or looks[-1]))
        go_on, caller = close_gate(service), Caller()
        caller.put(encoded([{"query": "a", "candidate": "b"}] * job.CHUNK_PAIRS))
        calling = caller.call(app)
        await until(lambda: service.models[Task.QC].stages[0].scheduler.backlog().bulk_tokens)
        seen = len(looks)
        await until(lambda: len(looks) > seen + 3)  # each at a time when it would long be too slow
        go_on.set()
        await until(lambda: len(caller.answers) == job.CHUNK_PAIRS)
        caller.put(b"", more_body=False)
        await calling
        return [answer["line"] for answer in caller.answers]

    answered = bare(bundle, scenario, bulk_silence_seconds=0.04)
    assert answered[: job.CHUNK_PAIRS] == list(range(1, job.CHUNK_PAIRS + 1))


def test_model_that_was_replaced_is_not_kept_for_a_bulk_request(bundle, tmp_path):
    tiny_bundle(tmp_path / "qc", seed=1)

    async def scenario(app, service):
        before = await first_answers(app, job.CHUNK_PAIRS)
        caller, calling = before
        model = weakref.ref(service.models[Task.QC].stages[0].engine)
        await service.rollouts[Task.QC].switch(tmp_path / "qc")
        await until(lambda: gc.collect() is None or model() is None)
        caller.put(encoded([{"query": "a", "candidate": "b", "id": 7}] * 3), more_body=False)
        await calling
        assert service.bulk_in_work == 0
        return caller.answers

    answers = bare(bundle, scenario, keep_previous=False, bulk_retired_seconds=0)
    assert [answer["line"] for answer in answers] == list(range(1, job.CHUNK_PAIRS + 4))
    assert all("score" in answer for answer in answers[:-3])
    assert [(each["id"], each["status"], each["reason"]) for each in answers[-3:]] == [(7, 503, "model_retired")] * 3


async def first_answers(app, count):
    """Begin a bulk request, send `count` lines and return the caller and its call once they are answered."""
    caller = Caller()
    caller.put(encoded([{"query": "a", "candidate": "b"}] * count))
    calling = caller.call(app)
    await until(lambda: len(caller.answers) == count)
    return caller, calling


def test_lines_in_progress_are_answered_when_the_model_is_revoked(bundle, tmp_path):
    async def scenario(app, service):
        go_on, caller, model = close_gate(service), Caller(), service.models[Task.QC]
        caller.put(encoded([{"query": "a", "candidate": "b"}] * job.CHUNK_PAIRS), more_body=False)
        calling = caller.call(app)
        await until(lambda: model.stages[0].scheduler.backlog().bulk_tokens)
        await service.rollouts[Task.QC].switch(tmp_path / "qc")
        await calling
        go_on.set()
        return [answer["reason"] for answer in caller.answers]

    tiny_bundle(tmp_path / "qc", seed=1)
    answered = bare(bundle, scenario, keep_previous=False, bulk_retired_seconds=0)
    assert answered == ["model_retired"] * job.CHUNK_PAIRS


def test_many_requests_at_once_get_no_more_places_than_there_are(bundle):
    async def scenario(http, service):
        go_on = close_gate(service)
        rows = encoded([{"query": "a", "candidate": "b"}])
        calls = [asyncio.create_task(http.post(URL, content=rows)) for _ in range(20)]
        await until(lambda: sum(call.done() for call in calls) == 18)
        go_on.set()
        return sorted([(await call).status_code for call in calls])

    assert in_process({Task.QC: bundle}, scenario, max_bulk_requests=2) == [200] * 2 + [429] * 18


def test_answer_over_http_1_0_has_no_chunks_and_ends_with_the_connection(client):
    rows = encoded([{"query": "a", "candidate": f"b{number}"} for number in range(300)])
    with connected(client.base_url) as connection:
        connection.sendall(f"POST {URL} HTTP/1.0\r\nContent-Length: {len(rows)}\r\n\r\n".encode() + rows)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, body = received.split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head.lower()
    assert [json.loads(line)["line"] for line in body.splitlines()] == list(range(1, 301))


def test_other_answers_over_http_1_0_keep_their_length(client):
    with connected(client.base_url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, body = received.split(b"\r\n\r\n", 1)
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert json.loads(body) == {"status": "alive"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_byte_order_mark_line_ends_and_empty_lines(client, end, last):
    rows = [json.dumps({"query": "a", "candidate": "b", "id": number}).encode() for number in range(3)]
    content = BYTE_ORDER_MARK + rows[0] + end + end + rows[1] + end + b"  " + end + rows[2] + (end if last else b"")
    found = decoded(client.post(URL, content=content))
    assert [(row["line"], row["id"]) for row in found] == [(1, 0), (3, 1), (5, 2)]
    assert all("score" in row for row in found)


def test_lines_of_the_client_have_room_in_the_smallest_spool():
    """The Python client reads only after it has sent a whole request: the answers of one must have room."""
    smallest = Settings.model_fields["bulk_spool_bytes"].metadata[0].ge
    answer = Answer(BULK_ROWS, None, {})
    answer.fail(InvalidRequestError("\U0001f600" * 10_000))
    assert BULK_ROWS * len(answer.encoded()) <= 4 * smallest
    answer.fail(InvalidRequestError("x" * 10_000))
    assert BULK_ROWS * len(answer.encoded()) <= smallest
