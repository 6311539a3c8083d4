"""API keys: who may call, with which limits, and what is logged. Most over ASGI; the log of a real process."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from relevance.client import Client
from relevance.client.types import RefusedError
from relevance.errors import ConfigError
from relevance.tasks import Task
from service.auth import keys as keys_module
from service.auth.key_file import Scope, entry, new_secret, read_keys
from service.auth.keys import Grant, Keys
from tests.serving import in_process, running

BODY = {"task": "qc", "query": "shoes", "candidates": ["Shoes"]}
OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/page/js/main.js")
CLOSED = ("/v1/models", "/v1/models/qc", "/v2", "/v2/models/qc", "/openapi.json", "/nothing", "/v1/score/")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.toml"


def add(path, name, *scopes, **limits):
    """Append a key to the file and return its secret."""
    secret = new_secret()
    lines = [f"{key} = {value.isoformat() if isinstance(value, datetime) else value}" for key, value in limits.items()]
    with path.open("a", encoding="utf-8") as file:
        file.write(entry(name, secret, scopes or ("score",)) + "\n".join([*lines, "\n"]))
    return secret


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def answers(bundle, path, *requests, **settings):
    """Return status, reason and headers of requests (method, path, options), sent one after another."""

    async def scenario(http, service):
        found = []
        for method, where, options in requests:
            answer = await http.request(method, where, **options)
            problem = "problem" in answer.headers.get("content-type", "")
            found.append((answer.status_code, answer.json()["reason"] if problem else None, answer.headers))
        return found

    return in_process({Task.QC: bundle}, scenario, api_keys=path, **settings)


def score(secret=None, **headers):
    return "POST", "/v1/score", {"json": BODY, "headers": headers | (bearer(secret) if secret else {})}


def test_known_key_is_accepted_in_either_header(bundle, path):
    secret = add(path, "search")
    found = answers(
        bundle,
        path,
        score(secret),
        score(**{"x-api-key": secret}),
        score(**{"authorization": f"bearer {secret}"}),
        score(**{"authorization": "Basic eDp5", "x-api-key": secret}),
    )
    assert [status for status, _, _ in found] == [200] * 4


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong"), bearer(""), {"x-api-key": "wrong"}, {"authorization": "Basic eDp5"}, {"x-api-key": "é" * 9}],
    ids=str,
)
def test_unknown_and_missing_keys_are_refused(bundle, path, headers):
    add(path, "search")
    raw = {name: value.encode() for name, value in headers.items()}
    ((status, reason, told),) = answers(bundle, path, ("POST", "/v1/score", {"json": BODY, "headers": raw}))
    assert (status, reason, told["www-authenticate"]) == (401, "unauthorized", 'Bearer realm="relevance"')


def test_hash_of_a_secret_is_not_a_key(bundle, path):
    add(path, "search")
    ((status, _, _),) = answers(bundle, path, score(read_keys(path)[0].sha256))
    assert status == 401


def test_health_is_open_and_everything_else_closed(bundle, path):
    add(path, "search")
    found = answers(bundle, path, *[("GET", where, {}) for where in (*OPEN, "/metrics", *CLOSED)])
    assert [status for status, _, _ in found] == [200] * (len(OPEN) + 1) + [401] * len(CLOSED)


def test_metrics_are_closed_where_a_key_is_for_them(bundle, path):
    search, scrape = add(path, "search"), add(path, "prometheus", "metrics")
    requests = [("GET", "/metrics", {"headers": bearer(each)}) for each in (search, scrape)]
    found = answers(bundle, path, ("GET", "/metrics", {}), *requests, score(scrape))
    expected = [(401, "unauthorized"), (403, "forbidden"), (200, None), (403, "forbidden")]
    assert [(status, reason) for status, reason, _ in found] == expected


def test_a_body_is_not_read_for_a_caller_without_a_key(bundle, path):
    add(path, "search")
    read = []

    async def body():
        read.append(True)
        yield b"x" * 100

    for where in ("/v1/score", "/v1/score/bulk?task=qc", "/v2/rerank"):
        ((status, _, _),) = answers(bundle, path, ("POST", where, {"content": body()}))
        assert (status, read) == (401, [])


def test_a_path_that_is_open_takes_no_large_body(bundle, path):
    add(path, "search")
    requests = [("POST", where, {"content": b"x" * 100_000}) for where in OPEN]
    assert [reason for _, reason, _ in answers(bundle, path, *requests)] == ["too_large"] * len(OPEN)


def test_an_expired_key_is_refused(bundle, path):
    now = datetime.now(UTC)
    old = add(path, "old", expires=now - timedelta(seconds=1))
    new = add(path, "new", expires=now + timedelta(hours=1))
    (first, reason, _), (second, _, _) = answers(bundle, path, score(old), score(new))
    assert (first, reason, second) == (401, "unauthorized", 200)


def test_the_rate_is_limited_after_a_burst(bundle, path):
    slow, other = add(path, "slow", requests_per_second=0.25, burst=3), add(path, "other")
    found = answers(bundle, path, *[score(slow)] * 4, score(other))
    assert [status for status, _, _ in found] == [200, 200, 200, 429, 200]
    _, reason, headers = found[3]
    assert (reason, int(headers["retry-after"])) == ("key_rate", 4)


def test_the_bucket_fills_at_its_rate(path, monkeypatch):
    add(path, "slow", requests_per_second=2.0, burst=4)
    now = [100.0]
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: now[0])
    grant, let_in, waits = Grant(read_keys(path)[0]), 0, set()
    for _ in range(1000):  # 10 seconds, 100 requests each
        try:
            with grant.admitted("score"):
                let_in += 1
        except keys_module.KeyRateError as error:
            waits.add(error.retry_after_seconds)
        now[0] += 0.01
    assert let_in in (23, 24)  # the burst and two a second
    assert (grant.in_work, waits) == (0, {1})


def test_concurrency_is_limited_for_each_key(bundle, path):
    narrow, other = add(path, "narrow", max_concurrent=1), add(path, "other")
    url = "/v1/score/bulk?task=qc"

    async def scenario(http, service):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def body():
            begun.set()
            await go_on.wait()
            yield b'{"query": "a", "candidate": "b"}\n'

        held = asyncio.create_task(http.post(url, content=body(), headers=bearer(narrow)))
        await begun.wait()
        refused = await http.post("/v1/score", json=BODY, headers=bearer(narrow))
        let_in = await http.post("/v1/score", json=BODY, headers=bearer(other))
        go_on.set()
        done = await held
        again = await http.post("/v1/score", json=BODY, headers=bearer(narrow))
        return refused, [each.status_code for each in (let_in, done, again)]

    refused, others = in_process({Task.QC: bundle}, scenario, api_keys=path)
    assert (refused.status_code, refused.json()["reason"]) == (429, "key_concurrency")
    assert refused.headers["retry-after"] == "1"
    assert others == [200, 200, 200]


def rewrite(path, text):
    """Put a new file in place, as an operator or Kubernetes does."""
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)


def test_rotation_adds_and_removes_keys_without_a_restart(path, monkeypatch):
    monkeypatch.setattr(keys_module, "LOOK_SECONDS", 0.0)
    first = add(path, "search", max_concurrent=1)
    keys = Keys(path)

    def found(secret):
        try:
            return keys.find([(b"x-api-key", secret.encode())])
        except keys_module.UnauthorizedError:
            return None

    in_use = found(first)
    with in_use.admitted("score"):
        second = add(path, "search")
        assert found(first) is in_use
        assert in_use.in_work == 1  # what is used stays used
        assert found(second).key.name == "search"
    rewrite(path, path.read_text().split("\n\n", 1)[1])
    assert found(first) is None
    assert found(second) is not None


def test_metrics_are_closed_by_a_new_key_although_nothing_else_is_asked(path, monkeypatch):
    monkeypatch.setattr(keys_module, "LOOK_SECONDS", 0.0)
    add(path, "search")
    keys = Keys(path)
    assert keys.needed(Scope.METRICS) is None
    add(path, "prometheus", "metrics")
    assert keys.needed(Scope.METRICS) == "metrics"


@pytest.mark.parametrize("broken", ["", "[[keys]]\nname = 1\n", "keys = 3", "[[keys", "\0"])
def test_a_broken_file_leaves_the_keys_and_says_so(path, monkeypatch, caplog, broken):
    monkeypatch.setattr(keys_module, "LOOK_SECONDS", 0.0)
    secret = add(path, "search")
    keys = Keys(path)
    rewrite(path, broken)
    for _ in range(3):
        assert keys.find([(b"x-api-key", secret.encode())]).key.name == "search"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "the keys stay as they were"
    ]
    path.unlink()
    assert keys.find([(b"x-api-key", secret.encode())])
    new = add(path, "new")
    assert keys.find([(b"x-api-key", new.encode())]).key.name == "new"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "keys: Field required"),
        ("keys = []", "at least 1 item"),
        ('[[keys]]\nname = "a b"', "name: String should match"),
        ('[[keys]]\nname = "a"\nsha256 = "rel_mysecret"\nscopes = ["score"]', "sha256: String should match"),
        ('[[keys]]\nname = "a"\nscopes = ["root"]', "'score', 'metrics' or 'admin'"),
        ('[[keys]]\nname = "a"\nlimit = 3', "limit: Extra inputs"),
        ('[[keys]]\nname = "a"\nexpires = 2027-01-01T00:00:00', "should have timezone info"),
        ('[[keys]]\nname = "a"\nrequests_per_second = inf', "finite"),
        ('[[keys]]\nname = "a"\nrequests_per_second = true', "requests_per_second: Input should be a valid number"),
        ('[[keys]]\nname = "a"\nburst = true', "burst: Input should be a valid integer"),
        ('[[keys]]\nname = "a"\nmax_concurrent = "2"', "max_concurrent: Input should be a valid integer"),
        ("keys = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_wrong_file_is_explained_without_its_values(path, text, said):
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "mysecret" not in str(caught.value)


def test_one_secret_may_not_stand_twice(path):
    add(path, "a")
    path.write_text(path.read_text() * 2)
    with pytest.raises(ConfigError, match="1 secrets occur twice"):
        read_keys(path)


def test_a_process_logs_names_and_never_secrets(bundle, path):
    secret = add(path, "search")
    wrong = new_secret()
    with running({"qc": bundle}, api_keys=path, log_level="DEBUG") as process:
        url = process.wait_ready()
        with Client(url, api_key=secret) as client:
            client.score("qc", "shoes", ["Shoes"], request_id="with-key")
        with Client(url, api_key=wrong) as client, pytest.raises(RefusedError) as caught:
            client.score("qc", "shoes", ["Shoes"], request_id="wrong-key")
        page = httpx.get(f"{url}/metrics").text
    assert caught.value.problem.reason == "unauthorized"
    assert 'relevance_rejections_total{reason="unauthorized"} 1.0' in page
    lines = {line["request_id"]: line for line in map(json.loads, process.lines) if line.get("event") == "request"}
    assert (lines["with-key"]["key"], lines["with-key"]["status"]) == ("search", 200)
    assert "key" not in lines["wrong-key"]
    assert not any(each in line for line in process.lines for each in (secret, wrong))


def test_a_process_with_a_wrong_file_does_not_start(bundle, path):
    with running({"qc": bundle}, api_keys=path) as process:
        assert process.end() == 2
    assert f"error: api_keys {path}: No such file or directory; expected a TOML file of keys" in process.lines


def test_a_process_without_keys_says_that_it_is_open(bundle):
    with running({"qc": bundle}) as process:
        process.wait_ready()
    assert sum("no API keys are set" in line for line in process.lines) == 1


def test_the_command_prints_an_entry_that_lets_its_secret_in(bundle, path):
    command = [sys.executable, "-c", "from relevance.cli import main; main()", "keys", "new", "ci", "--scope", "score"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    path.write_text(made.stdout)
    secret = made.stderr.split()[-1]
    assert secret not in made.stdout
    assert tomllib.loads(made.stdout)["keys"][0]["scopes"] == ["score"]
    ((status, _, _),) = answers(bundle, path, score(secret))
    assert status == 200
