"""The client against the real service, and against a server that misbehaves by a plan."""

import asyncio
import contextlib
import functools
import itertools
import json
import math
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from relevance.client import BULK_ROWS, AsyncClient, Client
from relevance.client.types import (
    AnswerError,
    DeadlineError,
    MixedModelsError,
    OverloadedError,
    RefusedError,
    RetryPolicy,
    ServiceFaultError,
    UnavailableError,
    UnreachableError,
)
from relevance.errors import ConfigError
from relevance.tasks import Pair, Task
from tests.serving import running
from tests.tiny import tiny_bundle

QUICK = RetryPolicy(attempts=4, base_seconds=0.01, cap_seconds=0.02)
FAILURES = [
    ({"status": 429, "retry_after": "0"}, OverloadedError),
    ({"status": 503, "retry_after": "0"}, UnavailableError),
    ({"drop": True}, UnreachableError),
]


class PlannedServer(ThreadingHTTPServer):
    """Answers each request by the next step of its plan; behind its end, a candidate's score is its own number."""

    daemon_threads = True

    def __init__(self, plan):
        super().__init__(("127.0.0.1", 0), PlannedHandler)
        self.plan, self.seen, self.lock = list(plan), [], threading.Lock()
        self.changed, self.given_up = threading.Condition(self.lock), threading.Event()
        self.connections, self.active, self.most_active = set(), 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class PlannedHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server, body = self.server, self.rfile.read(int(self.headers["content-length"]))
        with server.lock:
            step = server.plan.pop(0) if server.plan else {}
            server.seen.append({"at": time.monotonic(), "path": self.path, "body": json.loads(body), **self.headers})
            server.connections.add(self.client_address)
            server.active += 1
            server.most_active = max(server.most_active, server.active)
            server.changed.notify_all()
        if step.get("stuck"):
            server.given_up.wait(120)
        with server.changed:
            server.changed.wait_for(lambda: server.most_active >= step.get("until_active", 0), 120)
        time.sleep(step.get("delay", 0))
        with server.lock:
            server.active -= 1
        if step.get("drop"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status = step.get("status", 200)
        found = step.get("body") or (answer(json.loads(body)) if status == 200 else problem(status))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may have given up
            self.send_response(status)
            for name, value in {"Retry-After": step.get("retry_after"), "X-Request-Id": step.get("id")}.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

    def log_message(self, *args):
        pass


def answer(body):
    numbers = [float(candidate) for candidate in body["candidates"]]
    scores = [{"score": number, "label": int(number >= 0.5)} for number in numbers]
    usage = {"pairs": len(scores), "tokens": 7 * len(scores)}
    found = {"task": body["task"], "model": {"name": "m", "version": "v"}, "scores": scores, "usage": usage}
    return json.dumps(found | {"thresholds": {"unk": 0.5}, "truncated": [0]}).encode()


def by(version):
    """Return a step of a plan: one candidate with the score 0.5, given by a version of the model."""
    return {
        "body": answer({"task": "qc", "candidates": ["0.5"]}).replace(b'"version": "v"', b'"version": "%b"' % version)
    }


def problem(status):
    return json.dumps({"status": status, "reason": f"r{status}", "title": "t", "detail": f"d{status}"}).encode()


@contextlib.contextmanager
def planned(*plan):
    server = PlannedServer(plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def call(kind, url, *arguments, options=None, **call_options):
    """Score with either client and return the result."""
    options = {"retry": QUICK, "timeout_seconds": 10} | (options or {})
    if kind is Client:
        with Client(url, **options) as client:
            return client.score(*arguments, **call_options)

    async def run():
        async with AsyncClient(url, **options) as client:
            return await client.score(*arguments, **call_options)

    return asyncio.run(run())


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    manifest = tiny_bundle(folder / "qc", Task.QC, seed=1)
    with running({"qc": folder / "qc"}) as process:
        yield process.wait_ready(), manifest


@both
def test_scores_of_many_chunks_are_those_of_one_request(service, kind):
    url, manifest = service
    candidates = [f"Home & Garden,Kitchen {n}" + "x" * (3 * n) for n in range(60)]
    whole = call(kind, url, "qc", "cups", candidates, "ja", request_id="one")
    parts = call(kind, url, "qc", "cups", candidates, "ja", request_id="many", options={"max_candidates": 7})
    assert parts.scores == pytest.approx(whole.scores, abs=1e-5)
    assert parts.truncated == whole.truncated
    assert 0 < len(whole.truncated) < 60
    assert whole.labels == tuple(int(score >= 0.9) for score in whole.scores)
    assert whole.thresholds == {"ja": 0.9}
    assert (whole.model.name, whole.model.version) == (manifest.name, manifest.version)
    assert (whole.usage.requests, parts.usage.requests) == (1, 9)
    assert parts.usage.tokens == whole.usage.tokens
    assert (whole.request_id, parts.request_id) == ("one", "many")
    assert whole.task is Task.QC


def test_pairs_keep_their_own_queries_and_languages(service):
    pairs = [Pair("cups", "Kitchen", "ja"), Pair("靴", "Shoes"), Pair("cups", "Kitchen", "en")]
    with Client(service[0], max_candidates=2) as client:
        result = client.score_pairs("qc", pairs)
        alone = [client.score("qc", pair.query, [pair.candidate], pair.language).scores[0] for pair in pairs]
    assert result.scores == pytest.approx(alone, abs=1e-5)
    assert result.thresholds == {"ja": 0.9, "unk": 0.5, "en": 0.5}


def in_bulk(kind, url, pairs, count=None, transport=None, **options):
    """Score pairs as a bulk job with either client; return the first `count` results, or all of them."""
    if kind is Client:
        with Client(url, retry=QUICK) as client:
            client._opened.http = httpx.Client(base_url=url, transport=transport)
            return list(itertools.islice(client.score_bulk("qc", pairs, **options), count))

    async def run():
        async with AsyncClient(url, retry=QUICK) as client:
            client._connections.sender().http = httpx.AsyncClient(base_url=url, transport=transport)
            found = []
            async for result in client.score_bulk("qc", pairs, **options):
                found.append(result)
                if len(found) == count:
                    break
            return found

    return asyncio.run(run())


@both
def test_bulk_job_is_scored_in_its_order_as_pairs_are(service, kind):
    url, manifest = service
    pairs = [Pair("cups", f"Kitchen {n}" + "x" * (n % 90), "ja" if n % 2 else "en") for n in range(2500)]
    with Client(url) as client:
        whole = client.score_pairs("qc", pairs)
    found = in_bulk(kind, url, iter(pairs), request_id="job", timeout_seconds=math.inf)
    assert [(each.row, each.pair) for each in found] == list(enumerate(pairs))
    assert [each.score for each in found] == pytest.approx(list(whole.scores), abs=1e-5)
    assert [each.label for each in found] == list(whole.labels)
    assert tuple(each.row for each in found if each.truncated) == whole.truncated
    assert {(each.version, each.problem) for each in found} == {(manifest.version, None)}


@both
def test_bulk_job_takes_rows_only_as_they_are_sent(service, kind):
    taken = []
    endless = (taken.append(n) or Pair("cups", f"Kitchen {n}") for n in itertools.count())
    assert len(in_bulk(kind, service[0], endless, count=1001)) == 1001
    assert len(taken) == 2 * BULK_ROWS


@both
def test_faulty_row_of_a_bulk_job_has_a_problem_of_its_own(service, kind):
    first, faulty, odd, last = in_bulk(kind, service[0], [Pair("a", each) for each in ("b", " ", "\ud800", "b")])
    assert (faulty.problem.status, faulty.problem.reason, odd.problem.status) == (422, "invalid_request", 422)
    assert "candidate: blank" in faulty.problem.detail
    assert (faulty.score, faulty.label, first.score) == (None, None, last.score)


def test_bulk_job_without_rows_sends_nothing():
    assert in_bulk(Client, "http://127.0.0.1:9", []) == []


@both
def test_request_of_a_bulk_job_is_retried_whole(kind):
    line = b'{"line":1,"score":0.5,"label":1,"truncated":false}\n'
    cut = httpx.Response(200, content=line * 2, headers={"x-model-version": "v"})
    steps, seen = [httpx.Response(429, headers={"retry-after": "0"}), httpx.ReadError("broken"), cut], []

    def answered(request):
        seen.append((request.url.raw_path, request.headers["x-request-id"], request.content))
        step = steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    pairs = [Pair("a", "b"), Pair("c", "d", "en")]
    with pytest.raises(AnswerError, match="2 lines for 2 pairs, or not in their order"):
        in_bulk(kind, "http://test", pairs, transport=httpx.MockTransport(answered), request_id="job")
    sent = b'{"query": "a", "candidate": "b"}\n{"query": "c", "candidate": "d", "language": "en"}\n'
    assert seen == [(b"/v1/score/bulk?task=qc", "job", sent)] * 3


def test_refused_bulk_job_ends(service):
    with Client(service[0]) as client, pytest.raises(RefusedError, match="unknown_task"):
        next(client.score_bulk("qi", [Pair("a", "b")]))


@both
@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("qi", "a", ["b"]), 404, "unknown_task"),
        (("qc", " ", ["b"]), 422, "invalid_request"),
        (("qc", "a", []), 422, "invalid_request"),
        (("qc", "a" * 5000, ["b"]), 413, "too_large"),
        (("qc", "\ud800", ["b"]), 400, "malformed_json"),
    ],
)
def test_refusal_carries_the_problem_and_is_not_retried(service, kind, arguments, status, reason):
    with pytest.raises(RefusedError, match="request id my-1, attempt 1") as caught:
        call(kind, service[0], *arguments, request_id="my-1")
    assert (caught.value.problem.status, caught.value.problem.reason) == (status, reason)
    assert caught.value.problem.detail in str(caught.value)
    assert caught.value.request_id == "my-1"


@both
@pytest.mark.parametrize(("step", "error"), FAILURES)
def test_passing_failures_are_retried(kind, step, error):
    with planned(step, step) as server:
        assert call(kind, server.url, "qc", "q", ["0.25"], request_id="same").scores == (0.25,)
    assert [seen["X-Request-Id"] for seen in server.seen] == ["same"] * 3


@both
@pytest.mark.parametrize(("step", "error"), FAILURES)
def test_lasting_failure_ends_after_the_last_attempt(kind, step, error):
    with planned(*[step] * 9) as server, pytest.raises(error) as caught:
        call(kind, server.url, "qc", "q", ["0.25"])
    assert caught.value.attempts == len(server.seen) == QUICK.attempts


@both
@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RefusedError), (404, RefusedError), (408, RefusedError), (500, ServiceFaultError), (504, DeadlineError)],
)
def test_other_errors_are_not_retried(kind, status, error):
    with planned({"status": status, "id": "theirs"}) as server, pytest.raises(error, match=f"d{status}") as caught:
        call(kind, server.url, "qc", "q", ["0.25"])
    assert len(server.seen) == 1
    assert (caught.value.request_id, caught.value.problem.reason) == ("theirs", f"r{status}")


@both
def test_retry_after_is_waited_out(kind):
    with planned({"status": 429, "retry_after": "1"}) as server:
        call(kind, server.url, "qc", "q", ["0.25"])
    assert server.seen[1]["at"] - server.seen[0]["at"] >= 1


@both
def test_retry_after_beyond_the_deadline_fails_at_once(kind):
    with planned({"status": 429, "retry_after": "5"}) as server, pytest.raises(OverloadedError) as caught:
        call(kind, server.url, "qc", "q", ["0.25"], timeout_seconds=2)
    assert caught.value.retry_after_seconds == 5
    assert len(server.seen) == 1


@both
def test_deadline_covers_retries_and_is_sent(kind):
    with planned({"status": 503, "delay": 0.3}) as server:
        call(kind, server.url, "qc", "q", ["0.25"], timeout_seconds=100)
    first, second = (int(seen["X-Request-Timeout-Ms"]) for seen in server.seen)
    assert 10_000 < first <= 100_000
    assert second <= first - 300


@both
def test_chunks_that_waited_for_their_turn_send_what_is_left_then(kind):
    with planned(*[{"delay": 0.2}] * 3) as server:
        options = {"max_candidates": 1} | ({"max_concurrency": 1} if kind is AsyncClient else {})
        call(kind, server.url, "qc", "q", ["0.25"] * 3, timeout_seconds=100, options=options)
    left = [int(seen["X-Request-Timeout-Ms"]) for seen in server.seen]
    assert left[1] <= left[0] - 200
    assert left[2] <= left[1] - 200


@both
def test_slow_answer_is_given_up_at_the_deadline(kind):
    with planned({"stuck": True}) as server:
        with pytest.raises(DeadlineError, match="attempt 1"):
            call(kind, server.url, "qc", "q", ["0.25"], timeout_seconds=0.2)
        server.given_up.set()  # only now does the server answer
    assert len(server.seen) == 1


@both
def test_without_a_deadline_none_is_sent(kind):
    with planned() as server:
        call(kind, server.url, "qc", "q", ["0.25"], options={"timeout_seconds": None})
    assert "X-Request-Timeout-Ms" not in server.seen[0]


@both
def test_api_key_is_a_bearer_token(kind):
    with planned({"status": 401}) as server:
        with pytest.raises(RefusedError) as caught:
            call(kind, server.url, "qc", "q", ["0.25"], options={"api_key": "secret-1"})
        assert server.seen[0]["Authorization"] == "Bearer secret-1"
    assert "secret-1" not in str(caught.value)


@both
@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"[]", b"[" * 200_000, b'{"task": "qx", "scores": []}'])
def test_answer_of_something_else_is_named(kind, body):
    with planned({"body": body}) as server, pytest.raises(AnswerError, match="relevance service"):
        call(kind, server.url, "qc", "q", ["0.25"])


@both
def test_nobody_listening_is_unreachable(kind):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match="ConnectError"):
        call(kind, f"http://127.0.0.1:{port}", "qc", "q", ["0.25"])


def test_thousands_of_candidates_come_back_in_order_over_few_connections():
    numbers = [n / 3000 for n in range(3000)]
    delays = [{"delay": 0.05 * (3 - n % 4), "until_active": 3 if n < 3 else 0} for n in range(30)]
    with planned(*delays) as server:
        options = {"max_candidates": 100, "max_concurrency": 3}
        result = call(AsyncClient, server.url, "qc", "q", [str(number) for number in numbers], options=options)
    assert list(result.scores) == numbers
    assert result.truncated == tuple(range(0, 3000, 100))
    assert result.usage.requests == len(server.seen) == 30
    assert server.most_active == 3
    assert len(server.connections) == 3
    assert {seen["X-Request-Id"] for seen in server.seen} == {result.request_id}


@both
def test_call_whose_chunks_two_models_answered_is_sent_again_whole(kind):
    with planned(by(b"old"), by(b"new"), by(b"new"), by(b"new")) as server:
        options = {"max_candidates": 1} | ({"max_concurrency": 1} if kind is AsyncClient else {})
        result = call(kind, server.url, "qc", "q", ["0.5"] * 2, options=options, request_id="mine")
    assert [model.version for model in result.models] == ["new"]
    assert (result.scores, result.usage.requests) == ((0.5, 0.5), 2)
    assert [seen["X-Request-Id"] for seen in server.seen] == ["mine"] * 4


@both
def test_call_that_two_models_answer_each_time_fails(kind):
    options = {"max_candidates": 1} | ({"max_concurrency": 1} if kind is AsyncClient else {})
    with planned(*[by(b"old"), by(b"new")] * 9) as server, pytest.raises(MixedModelsError) as caught:
        call(kind, server.url, "qc", "q", ["0.5"] * 2, options=options, request_id="mine")
    assert "answered by m version old and m version new (request id mine, attempt 4)" in str(caught.value)
    assert len(server.seen) == 2 * QUICK.attempts


def test_sync_client_sends_chunks_in_turn_over_one_connection():
    with planned() as server:
        call(Client, server.url, "qc", "q", ["0.1"] * 10, options={"max_candidates": 2})
    assert server.most_active == 1
    assert len(server.connections) == 1
    assert [len(seen["body"]["candidates"]) for seen in server.seen] == [2] * 5


@both
def test_requests_stay_within_the_service_limit_of_bytes(kind):
    candidates = [f"0.{number}" + "\u3000" * 4000 for number in range(100, 400)]  # 12 kB each; the blanks are no digits
    with planned() as server:
        found = call(kind, server.url, "qc", "q", candidates, options={"max_candidates": 200})
    assert list(found.scores) == [float(each) for each in candidates]
    sizes = [int(seen["Content-Length"]) for seen in server.seen]
    assert max(sizes) < 2 * 1024 * 1024
    assert len(sizes) == 3
    assert {len(seen["body"]["candidates"]) for seen in server.seen} == {124, 52}


def test_candidate_over_the_limit_of_bytes_is_sent_alone():
    with planned() as server:
        call(Client, server.url, "qc", "q", ["0.1", "0.2" + " " * 1_600_000, "0.3"])
    assert [len(seen["body"]["candidates"]) for seen in server.seen] == [1, 1, 1]


def test_first_failed_chunk_ends_the_call_and_the_other_chunks():
    async def run(url):
        async with AsyncClient(url, max_candidates=1, max_concurrency=2, retry=QUICK) as client:
            with pytest.raises(RefusedError, match="d422"):
                await client.score("qc", "q", ["0.1"] * 50)
            assert len(asyncio.all_tasks()) == 1
            return await client.score("qc", "q", ["0.5"])

    with planned({}, {"status": 422}) as server:
        assert asyncio.run(run(server.url)).scores == (0.5,)
    assert len(server.seen) < 10


def test_cancelled_call_leaves_nothing_behind():
    async def run(url):
        async with AsyncClient(url, max_candidates=1) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.score("qc", "q", ["0.1"] * 5)
            return len(asyncio.all_tasks())

    with planned(*[{"stuck": True}] * 5) as server:
        assert asyncio.run(run(server.url)) == 1
        server.given_up.set()


def test_forked_process_does_not_share_connections_with_its_parent():
    code = (
        "import os, sys; from relevance.client import Client\n"
        "client = Client(sys.argv[1])\n"
        "call = lambda: client.score('qc', 'q', ['0.5']).scores\n"
        "call(); child = os.fork()\n"
        "if child == 0: os._exit(0 if call() == (0.5,) else 1)\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]); call(); client.close(); sys.exit(status)"
    )
    with planned() as server:
        done = subprocess.run([sys.executable, "-c", code, server.url], timeout=60, check=False)
    assert (done.returncode, len(server.seen), len(server.connections)) == (0, 3, 2)


def test_async_client_may_be_used_on_several_event_loops():
    code = (  # a process of its own: the sockets of a closed loop are closed by the collector, with a warning
        "import asyncio, sys; from relevance.client import AsyncClient\n"
        "client = AsyncClient(sys.argv[1], max_concurrency=1)\n"  # requests wait for each other on each loop
        "async def calls():\n"
        "    found = await asyncio.gather(*[client.score('qc', 'q', ['0.5']) for _ in range(3)])\n"
        "    return [each.scores for each in found]\n"
        "assert [asyncio.run(calls()) for _ in range(3)] == [[(0.5,)] * 3] * 3\n"
        "assert len(client._connections._senders) == 1"  # those of closed loops are dropped
    )
    with planned() as server:
        subprocess.run([sys.executable, "-c", code, server.url], timeout=60, check=True)
    assert len(server.seen) == 9


def test_call_that_is_cancelled_at_any_moment_does_not_block_later_ones():
    async def run(url, steps):
        async with AsyncClient(url, max_concurrency=1, timeout_seconds=20) as client:
            cancelled = asyncio.create_task(client.score("qc", "q", ["0.1"]))
            for _ in range(steps):
                await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            return (await client.score("qc", "q", ["0.5"])).scores

    with planned() as server:
        assert [asyncio.run(run(server.url, steps)) for steps in range(25)] == [(0.5,)] * 25


def test_closed_client_says_so():
    client = Client("http://127.0.0.1:9")
    client.close()
    client.close()
    for call in (client.score, functools.partial(client.rerank, budget_ms=100)):
        with pytest.raises(ConfigError, match="the client is closed"):
            call("qc", "q", ["a"])

    async def run():
        async with AsyncClient("http://127.0.0.1:9") as client:
            pass
        for call in (client.score, functools.partial(client.rerank, budget_ms=100)):
            with pytest.raises(ConfigError, match="the client is closed"):
                await call("qc", "q", ["a"])

    asyncio.run(run())


@both
def test_closing_a_client_ends_the_call_that_waits(kind):
    """The connection breaks; a retry finds the client closed."""

    def sync(client, server):
        found = []

        def call():
            with pytest.raises(UnreachableError, match="the client was closed before the answer came"):
                client.score("qc", "q", ["0.1"])
            found.append(True)

        thread = threading.Thread(target=call)
        thread.start()
        wait_for_request(server)
        client.close()
        server.given_up.set()  # a thread that waits for data is not woken by the closing of its socket
        thread.join(60)
        assert found

    async def run(client, server):
        call = asyncio.create_task(client.score("qc", "q", ["0.1"]))
        await asyncio.to_thread(wait_for_request, server)
        await client.aclose()
        with pytest.raises(UnreachableError, match="the client was closed before the answer came"):
            await call

    with planned({"stuck": True, "drop": True}) as server:
        client = kind(server.url, retry=QUICK)
        sync(client, server) if kind is Client else asyncio.run(run(client, server))
        server.given_up.set()


def wait_for_request(server):
    with server.changed:
        assert server.changed.wait_for(lambda: server.most_active == 1, 60)


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "nonsense://me:hunter2@host"),
        ("HTTPS_PROXY", "http://me:hunter2@[::1"),
        ("NO_PROXY", "[::1"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_environment_that_httpx_refuses_is_a_configuration_error(monkeypatch, kind, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as caught:
        kind("http://localhost")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"base_url": "localhost:8080"}, {"base_url": "http://"}, {"max_candidates": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Client(**({"base_url": "http://localhost"} | wrong))


def test_without_httpx_the_import_says_what_to_install():
    code = "import sys; sys.modules['httpx'] = None; import relevance.client.types; import relevance.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MachineError: relevance.client needs the package httpx" in done.stderr
    assert "query-relevance[client]" in done.stderr


def answering(**answer):
    client = Client("http://test")
    client._opened.http = httpx.Client(
        base_url="http://test", transport=httpx.MockTransport(lambda _: httpx.Response(**answer))
    )
    return client


def test_broken_encoding_of_an_answer_is_an_error_of_the_client():
    stream = httpx.ByteStream(b"no gzip")
    with pytest.raises(UnreachableError, match="DecodingError"):
        answering(status_code=200, headers={"content-encoding": "gzip"}, stream=stream).score("qc", "a", ["b"])


def test_answer_with_too_few_scores_is_refused():
    answer = {"task": "qc", "scores": [], "truncated": [], "thresholds": {}, "usage": {"pairs": 0, "tokens": 0}}
    answer["model"] = {"name": "n", "version": "v"}
    with pytest.raises(AnswerError, match="0 scores for 1"):
        answering(status_code=200, json=answer).score("qc", "a", ["b"])


@pytest.mark.parametrize(
    ("seconds", "sent"), [(math.inf, None), (1e300, None), (10**400, None), (5e6, "999999999"), (2e6, "999999999")]
)
def test_very_long_deadlines_are_sent_in_bounds(seconds, sent):
    with PlannedServer([]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with Client(server.url) as client:
            client.score("qc", "a", ["0.7"], timeout_seconds=seconds)
        server.shutdown()
    assert {name.lower(): value for name, value in server.seen[0].items()}.get("x-request-timeout-ms") == sent
