"""`rerank` of the client: within its budget and with an honest flag, also where the service is away, frozen or slow."""

import asyncio
import contextlib
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relevance.client import AsyncClient, Client
from relevance.client.metrics import RerankCollector
from relevance.client.rerank import RerankPolicy
from relevance.client.types import CircuitOpenError, DeadlineError, RefusedError, RetryPolicy, UnreachableError
from relevance.errors import ConfigError
from relevance.tasks import Task
from tests.contract.relevance.test_client import QUICK, both, planned
from tests.serving import running
from tests.tiny import tiny_bundle

KEEP = RerankPolicy("keep_order")
PARTIAL = RerankPolicy("keep_order", partial=True)
TITLES = [f"Red ceramic cup number {n} " + "x" * (n % 30) for n in range(120)]
SLACK_SECONDS = 0.5  # a busy machine; the timeout of the client is 30 s


class Ranker:
    """A client of either kind, used from plain code; notes how long its calls take."""

    def __init__(self, kind, url, **options):
        self._kind, self.seconds = kind, []
        self.client = kind(url, **({"retry": QUICK} | options))
        self._runner = asyncio.Runner() if kind is AsyncClient else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(self.client.aclose())
            self._runner.close()

    def __call__(self, *arguments, **options):
        began = time.monotonic()
        try:
            found = self.client.rerank(*arguments, **options)
            return found if self._runner is None else self._runner.run(found)
        finally:
            self.seconds.append(time.monotonic() - began)


def kept(result, count, reason):
    """Whether a result is the honest one of a kept order."""
    assert (result.reranked, result.reason, result.order) == (False, reason, tuple(range(count)))
    assert result.scores == (None,) * count
    assert (result.model, result.error.reason) == (None, reason)
    return True


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "qi"
    manifest = tiny_bundle(folder, Task.QI, seed=1)
    with running({"qi": folder}) as process:
        yield process, manifest


@both
def test_new_order_is_that_of_the_scores(service, kind):
    process, manifest = service
    with Client(process.wait_ready()) as client:
        scored = client.score("qi", "cup", TITLES, "ja")
    with Ranker(kind, process.wait_ready()) as rerank:
        result = rerank("qi", "cup", TITLES, "ja", budget_ms=30_000)
        assert rerank.client.rerank_stats.outcomes["reranked"] == rerank.client.rerank_stats.calls == 1
    assert result.reranked
    assert (result.reason, result.error, result.unscored, result.outcome) == (None, None, (), "reranked")
    assert result.order == scored.best_first
    assert result.scores == pytest.approx(scored.scores, abs=1e-5)
    assert result.model.version == manifest.version
    assert result.reorder(TITLES)[0] == TITLES[result.order[0]]
    with pytest.raises(ConfigError, match="items: 3 of them, expected 120"):
        result.reorder(TITLES[:3])


@both
def test_frozen_service_costs_the_budget_then_nothing_until_it_wakes(service, kind):
    process, _ = service
    policy = RerankPolicy("keep_order", break_after=3, break_seconds=0.2)
    with Ranker(kind, process.wait_ready()) as rerank:
        assert rerank("qi", "cup", TITLES, budget_ms=30_000, policy=policy).reranked
        process.child.send_signal(signal.SIGSTOP)
        try:
            frozen = [rerank("qi", "cup", TITLES, budget_ms=150, policy=policy) for _ in range(3)]
            opened = rerank("qi", "cup", TITLES, budget_ms=10_000, policy=policy)
        finally:
            process.child.send_signal(signal.SIGCONT)
        assert all(kept(result, len(TITLES), "deadline") for result in frozen)
        assert kept(opened, len(TITLES), "circuit_open")
        assert isinstance(opened.error, CircuitOpenError)
        assert max(rerank.seconds[1:4]) < 0.15 + SLACK_SECONDS
        assert rerank.seconds[4] < SLACK_SECONDS
        time.sleep(0.2)
        assert rerank("qi", "cup", TITLES, budget_ms=30_000, policy=policy).reranked
        stats = rerank.client.rerank_stats
    assert stats.outcomes == dict.fromkeys(stats.outcomes, 0) | {"reranked": 2, "deadline": 3, "circuit_open": 1}
    assert (stats.calls, stats.fallbacks, stats.hedges) == (6, 4, 0)


@both
def test_stopped_service_keeps_the_order(tmp_path, kind):
    tiny_bundle(tmp_path / "qi", Task.QI)
    with running({"qi": tmp_path / "qi"}) as process, Ranker(kind, process.wait_ready()) as rerank:
        assert rerank("qi", "cup", TITLES, budget_ms=30_000, policy=KEEP).reranked
        process.end(signal.SIGKILL)
        results = [rerank("qi", "cup", TITLES, budget_ms=300, policy=KEEP) for _ in range(3)]
    assert all(kept(result, len(TITLES), result.reason) for result in results)
    assert {result.reason for result in results} <= {"unreachable", "deadline"}  # a busy machine may run out of time
    assert max(rerank.seconds[1:]) < 0.3 + SLACK_SECONDS


@pytest.fixture
def slow(tmp_path):
    """A service whose model is slow, while others keep it busy."""
    folder = tmp_path / "qi"
    tiny_bundle(folder, Task.QI, hidden=128, depth=30)
    with running({"qi": folder}) as process, Client(process.wait_ready(), timeout_seconds=60) as client:
        client.score("qi", "warm", TITLES)
        over = threading.Event()

        def load(number):
            count = 0
            while not over.is_set():
                with contextlib.suppress(Exception):
                    client.score("qi", f"load {number} {count}", TITLES, timeout_seconds=20)
                count += 1

        threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        yield process.wait_ready()
        over.set()
        process.child.kill()
        for thread in threads:
            thread.join()


@both
def test_slow_service_under_load_is_answered_within_the_budget(slow, kind):
    with Ranker(kind, slow) as rerank:
        policies = [KEEP, PARTIAL] * 5
        results = [rerank("qi", f"cup {n}", TITLES, budget_ms=400, policy=each) for n, each in enumerate(policies)]
    assert max(rerank.seconds) < 0.4 + SLACK_SECONDS
    for result, policy in zip(results, policies, strict=True):
        assert sorted(result.order) == list(range(len(TITLES)))
        if result.reranked:
            left = len(result.unscored)
            assert policy.partial or not left
            assert result.order[len(TITLES) - left :] == result.unscored
        else:
            assert kept(result, len(TITLES), result.reason)
            assert result.reason in ("deadline", "overloaded", "circuit_open")


@both
def test_part_of_the_candidates_is_ranked_where_time_is_short(tmp_path, kind):
    tiny_bundle(tmp_path / "qi", Task.QI, hidden=128, depth=30)
    with running({"qi": tmp_path / "qi"}) as process, Ranker(kind, process.wait_ready(), max_candidates=480) as rerank:
        rerank("qi", "warm", TITLES, budget_ms=60_000)
        seconds, result = rerank.seconds[0], None
        for factor in (1.0, 2.0, 4.0):  # the machine may be busier than a moment ago
            result = rerank("qi", f"cup {factor}", TITLES * 4, budget_ms=1000 * seconds * factor, policy=PARTIAL)
            if result.reranked:
                break
        stats = rerank.client.rerank_stats
    assert result.outcome == "partial"
    assert 0 < len(result.unscored) < 480
    assert result.unscored == tuple(range(480 - len(result.unscored), 480))
    assert result.order[-len(result.unscored) :] == result.unscored
    assert stats.outcomes["partial"] == 1


@both
def test_candidates_beyond_one_request_keep_their_places(kind):
    with planned() as server, Ranker(kind, server.url, max_candidates=2) as rerank:
        result = rerank("qi", "q", ["0.1", "0.9", "0.5"], budget_ms=10_000)
    assert result.order == (1, 0, 2)
    assert (result.scores, result.unscored, result.outcome) == ((0.1, 0.9, None), (2,), "partial")
    assert len(server.seen) == 1


@both
def test_no_candidates_send_nothing(kind):
    with Ranker(kind, "http://127.0.0.1:9") as rerank:
        result = rerank("qi", "q", [], budget_ms=1000)
        assert (result.reranked, result.reason, result.order) == (False, "no_candidates", ())
        assert (rerank.client.rerank_stats.calls, rerank.client.rerank_stats.fallbacks) == (1, 0)


@both
def test_equal_scores_keep_their_order(kind):
    with planned() as server, Ranker(kind, server.url) as rerank:
        assert rerank("qi", "q", ["0.5", "0.7", "0.5"], budget_ms=10_000).order == (1, 0, 2)


@both
def test_second_request_answers_where_the_first_is_stuck(kind):
    with planned({"stuck": True}) as server, Ranker(kind, server.url) as rerank:
        result = rerank("qi", "q", ["0.1", "0.9"], budget_ms=20_000, policy=RerankPolicy(hedge_ms=50))
        assert result.order == (1, 0)
        assert rerank.client.rerank_stats.hedges == 1
        server.given_up.set()
    assert {seen["X-Request-Id"] for seen in server.seen} == {result.request_id}
    assert len(server.seen) == 2


@both
def test_failed_first_request_waits_for_the_second(kind):
    with planned({"status": 500, "delay": 0.3}, {"delay": 0.6}) as server, Ranker(kind, server.url) as rerank:
        assert rerank("qi", "q", ["0.1"], budget_ms=20_000, policy=RerankPolicy(hedge_ms=50)).reranked
    assert len(server.seen) == 2


@both
def test_quick_answer_is_not_hedged(kind):
    with planned() as server, Ranker(kind, server.url) as rerank:
        rerank("qi", "q", ["0.1"], budget_ms=20_000, policy=RerankPolicy(hedge_ms=10_000))
        assert rerank.client.rerank_stats.hedges == 0
    assert len(server.seen) == 1


@both
def test_budget_covers_retries_and_is_told_to_the_service(kind):
    with planned({"status": 503, "delay": 0.2, "retry_after": "0"}) as server, Ranker(kind, server.url) as rerank:
        assert rerank("qi", "q", ["0.1"], budget_ms=10_000).reranked
    first, second = (int(seen["X-Request-Timeout-Ms"]) for seen in server.seen)
    assert 9000 < first < 10_000
    assert second <= first - 200
    with planned() as server, Ranker(kind, server.url) as rerank:
        rerank("qi", "q", ["0.1"], budget_ms=10_000, policy=PARTIAL)
    assert 8000 < int(server.seen[0]["X-Request-Timeout-Ms"]) <= 9000
    assert server.seen[0]["body"]["partial"] is True


@both
def test_without_keep_order_the_error_is_raised_and_counted(kind):
    with planned({"stuck": True}) as server, Ranker(kind, server.url) as rerank:
        with pytest.raises(DeadlineError):
            rerank("qi", "q", ["0.1"], budget_ms=100)
        server.given_up.set()
        assert rerank.client.rerank_stats.outcomes["deadline"] == rerank.client.rerank_stats.fallbacks == 1


@both
def test_refused_request_keeps_the_order_and_opens_no_circuit(service, kind):
    with Ranker(kind, service[0].wait_ready()) as rerank:
        results = [rerank("qc", "q", ["a", "b"], budget_ms=5000, policy=KEEP) for _ in range(7)]
    assert all(kept(result, 2, "refused") for result in results)
    assert isinstance(results[0].error, RefusedError)
    assert results[0].error.problem.reason == "unknown_task"


@both
@pytest.mark.parametrize("scores", [["0.5"], ["0.5", None], ["0.5", "1.5"]])
def test_answer_that_leaves_out_or_exceeds_is_none(kind, scores):
    values = [None if each is None else {"score": float(each)} for each in scores]
    body = json.dumps({"scores": values, "model": {"name": "m", "version": "v"}}).encode()
    with planned({"body": body}) as server, Ranker(kind, server.url) as rerank:
        assert kept(rerank("qi", "q", ["a", "b"], budget_ms=10_000, policy=KEEP), 2, "no_answer")


@both
def test_server_that_sends_byte_by_byte_does_not_exceed_the_budget(kind):
    def trickle(listener):
        with contextlib.suppress(OSError):
            link, _ = listener.accept()
            with link:
                link.recv(65536)
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    link.sendall(b" ")
                    time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)  # a busy machine may connect too late
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        with Ranker(kind, f"http://127.0.0.1:{listener.getsockname()[1]}") as rerank:
            assert kept(rerank("qi", "q", ["a"], budget_ms=200, policy=KEEP), 1, "deadline")
        assert rerank.seconds[0] < 0.2 + SLACK_SECONDS
        thread.join()


@both
def test_deadline_names_the_failure_before_it(kind):
    steps = {"status": 503, "retry_after": "0"}, {"stuck": True}
    with planned(*steps) as server, Ranker(kind, server.url) as rerank:
        result = rerank("qi", "q", ["0.5"], budget_ms=1500, policy=KEEP)
        server.given_up.set()
    assert result.reason == "deadline"
    assert "before that: " in str(result.error)
    assert "503 r503" in str(result.error)


def test_first_call_imports_no_network_code():
    code = (
        "import sys; from relevance.client import Client; from relevance.client.rerank import RerankPolicy\n"
        "before = set(sys.modules); client = Client('http://127.0.0.1:9')\n"
        "client.rerank('qi', 'q', ['a'], budget_ms=2000, policy=RerankPolicy('keep_order'))\n"
        "print(*(name for name in set(sys.modules) - before if name.partition('.')[0] in ('httpcore', 'h11', 'httpx')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) <= {"httpcore._backends.auto"}


def test_threads_share_a_client():
    with planned(*[{"until_active": 8}] * 8) as server, Client(server.url) as client:
        results = []

        def call(number):
            results.append(client.rerank("qi", f"q{number}", ["0.1", "0.9"], budget_ms=30_000).order)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [(1, 0)] * 8


def test_forked_process_ranks_with_the_client_of_its_parent():
    code = (
        "import os, sys; from relevance.client import Client\n"
        "client = Client(sys.argv[1])\n"
        "call = lambda: client.rerank('qi', 'q', ['0.1', '0.9'], budget_ms=20_000).order\n"
        "call(); child = os.fork()\n"
        "if child == 0: os._exit(0 if call() == (1, 0) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    with planned() as server:
        done = subprocess.run([sys.executable, "-c", code, server.url], timeout=60, check=False)
    assert done.returncode == 0


def test_closing_ends_the_calls_of_other_threads():
    with planned({"stuck": True}, {"stuck": True}) as server:
        client, found = Client(server.url), []

        def call(policy):
            try:
                found.append(client.rerank("qi", "q", ["0.1"], budget_ms=100_000, policy=policy).reason)
            except UnreachableError as error:
                found.append(str(error))

        threads = [threading.Thread(target=call, args=(policy,)) for policy in (KEEP, RerankPolicy())]
        for thread in threads:
            thread.start()
        with server.changed:
            assert server.changed.wait_for(lambda: server.most_active == 2, 60)
        client.close()
        for thread in threads:
            thread.join(60)
        server.given_up.set()
    assert len(found) == 2
    assert "unreachable" in found
    assert any("the client was closed before the answer came" in each for each in found)
    assert client.rerank_stats.outcomes["unreachable"] == 2


def test_counts_are_metrics_for_prometheus(service):
    registry = CollectorRegistry()
    with Client(service[0].wait_ready()) as client:
        registry.register(RerankCollector(client))
        client.rerank("qi", "q", ["a"], budget_ms=30_000)
        client.rerank("nothing", "q", ["a"], budget_ms=30_000, policy=KEEP)
        page = generate_latest(registry).decode()
    assert 'relevance_client_reranks_total{outcome="reranked"} 1.0' in page
    assert 'relevance_client_reranks_total{outcome="refused"} 1.0' in page
    assert 'relevance_client_reranks_total{outcome="circuit_open"} 0.0' in page
    assert "relevance_client_hedges_total 0.0" in page


@both
@pytest.mark.parametrize("budget", [0, -1, math.nan, math.inf, 10**400, "80", True, None])
def test_budget_is_milliseconds_above_0(kind, budget):
    with (
        Ranker(kind, "http://127.0.0.1:9") as rerank,
        pytest.raises(ConfigError, match=r"budget_ms .* expected millis"),
    ):
        rerank("qi", "q", ["a"], budget_ms=budget, policy=KEEP)


@pytest.mark.parametrize(
    "wrong",
    [
        ("fallback", "keep"),
        ("fallback", None),
        ("partial", "yes"),
        ("hedge_ms", 0),
        ("hedge_ms", math.nan),
        ("break_after", -1),
        ("break_after", 1.5),
        ("break_seconds", 0),
        ("break_seconds", "1"),
    ],
)
def test_impossible_policy_names_the_field(wrong):
    name, value = wrong
    with pytest.raises(ConfigError, match=rf"{name} .*: expected"):
        RerankPolicy(**{name: value})


def test_retry_policy_of_one_attempt_is_kept():
    once = RetryPolicy(attempts=1)
    with planned({"status": 503, "retry_after": "0"}) as server, Client(server.url, retry=once) as client:
        result = client.rerank("qi", "q", ["0.5"], budget_ms=10_000, policy=KEEP)
    assert (result.reason, len(server.seen)) == ("unavailable", 1)
