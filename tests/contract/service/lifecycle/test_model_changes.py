"""Models changed while the service runs: a real process under load, its admin interface, and the folders it watches."""

import asyncio
import concurrent.futures
import itertools
import json
import shutil
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from relevance.client import AsyncClient, Client
from relevance.client.types import RetryPolicy
from relevance.model.bundle import Bundle
from relevance.tasks import Pair
from service.auth.key_file import entry
from service.runtime.session import Engine
from tests.serving import Process, admin_url, running
from tests.tiny import tiny_bundle

QUERY, CANDIDATES = "shoes", [f"Sports,Running Shoes {number}" for number in range(12)]
BODY = {"task": "qc", "query": QUERY, "candidates": CANDIDATES}
BULK = "".join(json.dumps({"query": QUERY, "candidate": each}) + "\n" for each in CANDIDATES)
SWITCHES, WAIT_SECONDS = 20, 30


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the bundles a and b; bad ones beside them, and others where no bundle may be loaded from."""
    folder = tmp_path_factory.mktemp("service") / "bundles"
    for seed, name in enumerate("ab"):
        tiny_bundle(folder / name, seed=seed)
    shutil.copytree(folder / "a", folder / "flipped")
    data = bytearray((folder / "flipped" / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "flipped" / "model.onnx").write_bytes(data)
    shutil.copytree(folder / "b", folder.parent / "outside")
    (folder / "way-out").symlink_to(folder.parent / "outside")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@pytest.fixture(scope="module")
def versions(root):
    return {name: Bundle.open(root / name).manifest.version for name in "ab"}


@pytest.fixture(scope="module")
def expected(root, versions):
    """The scores of CANDIDATES, by the version of the model."""
    found = {}
    for name, version in versions.items():
        engine = Engine(Bundle.open(root / name), 1)
        pairs = engine.inputs.encode([Pair(QUERY, each, "unk") for each in CANDIDATES])
        found[version] = engine.bundle.manifest.scores(engine.logits(pairs)).tolist()
    a, b = found.values()
    assert min(abs(x - y) for x, y in zip(a, b, strict=True)) > 0.01
    return found


@contextmanager
def served(root, **settings):
    """A service of bundle a with an admin interface; yields clients of both."""
    with running({"qc": root / "a"}, admin_port=0, **settings) as process:
        url, admin = process.wait_ready(), admin_url(process)
        with httpx.Client(base_url=url, timeout=30) as client, httpx.Client(base_url=admin, timeout=30) as admin:
            yield client, admin


@pytest.fixture
def service(root):
    with served(root) as clients:
        yield clients


def changed(admin, name, mode="switch", **more):
    answer = admin.post("/v1/admin/models/qc", json={"bundle": name, "mode": mode} | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer, status, reason):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["reason"] == reason
    return answer.json()["detail"]


def by_native(client):
    answer = client.post("/v1/score", json=BODY).raise_for_status().json()
    return answer["model"]["version"], [each["score"] for each in answer["scores"]]


def by_rerank(client):
    answer = client.post("/v2/rerank", json={"model": "qc", "query": QUERY, "documents": CANDIDATES}).raise_for_status()
    results = sorted(answer.json()["results"], key=lambda result: result["index"])
    return answer.headers["x-model-version"], [each["relevance_score"] for each in results]


def by_predict(client):
    answer = client.post("/predict", json={"inputs": [[QUERY, each] for each in CANDIDATES]}).raise_for_status()
    return answer.headers["x-model-version"], [each[0]["score"] for each in answer.json()]


def by_bulk(client):
    answer = client.post("/v1/score/bulk?task=qc", content=BULK).raise_for_status()
    return answer.headers["x-model-version"], [json.loads(line)["score"] for line in answer.text.splitlines()]


SHAPES = (by_native, by_rerank, by_predict, by_bulk)


def test_20_switches_under_load_lose_no_request_and_mix_no_versions(service, root, versions, expected):
    client, admin = service
    done, seen = threading.Event(), []

    def call(shape):
        with httpx.Client(base_url=client.base_url, timeout=30) as mine:
            while not done.is_set():
                seen.append(shape(mine))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        calling = [pool.submit(call, shape) for shape in (*SHAPES, by_native)]
        try:
            for name in itertools.islice(itertools.cycle("ba"), SWITCHES):
                before = len(seen)
                assert changed(admin, name)["active"]["version"] == versions[name]
                while len(seen) < before + 10 and not any(each.done() for each in calling):
                    time.sleep(0.005)
        finally:
            done.set()
        for each in calling:
            each.result()  # raises where a request failed
    for version, scores in seen:
        assert scores == pytest.approx(expected[version], abs=1e-5)
    assert {version for version, _ in seen} == set(versions.values())
    page = admin.get("/metrics").text
    assert f'relevance_model_changes_total{{result="switched",task="qc"}} {SWITCHES}.0' in page
    assert sum(line.startswith("relevance_model_info{") for line in page.splitlines()) == 2
    assert values(client, "relevance_rejections_total") == 0


def test_bulk_stream_keeps_the_model_that_it_began_with(service, root, versions, expected):
    client, admin = service

    def lines():
        yield BULK.encode() * 20
        wait_for(lambda: admin.get("/v1/admin/models").json()["models"][0]["active"]["in_work"] == 1)
        for name in ("b", "a", "b"):  # the model that the stream began with loses every role
            changed(admin, name)
        yield BULK.encode() * 20

    answer = client.post("/v1/score/bulk?task=qc", content=lines())
    version, found = answer.headers["x-model-version"], [json.loads(line)["score"] for line in answer.text.splitlines()]
    assert version == versions["a"]
    assert found == pytest.approx(expected[version] * 40, abs=1e-5)
    assert by_native(client)[0] == versions["b"]


def test_bad_bundle_is_reported_and_the_old_model_still_serves(service, versions):
    client, admin = service
    detail = problem(
        admin.post("/v1/admin/models/qc", json={"bundle": "flipped", "mode": "switch"}), 422, "bundle_refused"
    )
    assert "model.onnx has sha256" in detail
    state = admin.get("/v1/admin/models").json()["models"][0]
    assert (state["active"]["version"], state["previous"], state["challenger"]) == (versions["a"], None, None)
    assert state["refusal"]["detail"] == detail
    assert by_native(client)[0] == versions["a"]
    assert 'relevance_model_changes_total{result="refused",task="qc"} 1.0' in client.get("/metrics").text


def test_roll_back_answers_with_the_old_model_again(service, root, versions):
    client, admin = service
    problem(admin.post("/v1/admin/models/qc/rollback"), 409, "conflict")
    changed(admin, str(root / "b"))
    assert by_native(client)[0] == versions["b"]
    state = admin.post("/v1/admin/models/qc/rollback").json()
    assert (state["active"]["version"], state["previous"]["version"]) == (versions["a"], versions["b"])
    assert by_native(client)[0] == versions["a"]


def values(client, name):
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + "{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_shadow_changes_no_answer_and_is_compared(service, versions, expected):
    client, admin = service
    state = changed(admin, "b", "shadow", share=1)
    assert (state["challenger"]["mode"], state["challenger"]["model"]["version"]) == ("shadow", versions["b"])
    for shape in (by_native, by_rerank, by_predict):
        assert shape(client) == (versions["a"], pytest.approx(expected[versions["a"]], abs=1e-5))
    pairs, until = 3 * len(CANDIDATES), time.monotonic() + WAIT_SECONDS
    while values(client, "relevance_shadow_score_shift_count") < pairs and time.monotonic() < until:
        time.sleep(0.01)
    labels = [[score >= 0.5 for score in scores] for scores in expected.values()]
    differ = sum(x != y for x, y in zip(*labels, strict=True))
    shift = sum(abs(x - y) for x, y in zip(*expected.values(), strict=True))
    assert values(client, "relevance_shadow_pairs_total") == pairs
    assert values(client, "relevance_shadow_disagreements_total") == 3 * differ
    assert values(client, "relevance_shadow_score_shift_sum") == pytest.approx(3 * shift, abs=1e-3)
    assert values(client, "relevance_shadow_run_duration_seconds_count") == 3
    assert values(client, "relevance_batch_pairs_sum") == pairs  # of the active model alone
    refused = client.post("/v1/score", json=BODY, headers={"x-relevance-model": "challenger"})
    assert "expected active" in problem(refused, 422, "invalid_request")
    assert admin.post("/v1/admin/models/qc/promote").json()["active"]["version"] == versions["b"]
    assert by_native(client) == (versions["b"], pytest.approx(expected[versions["b"]], abs=1e-5))


def asked(client, path="/v1/score", body=BODY, **headers):
    return client.post(path, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def test_canary_answers_by_header_and_by_share(service, versions, expected):
    client, admin = service
    a, b = versions.values()
    changed(admin, "b", "canary", share=0)
    for name, version in ((None, a), ("active", a), ("challenger", b)):
        answer = asked(client, **({"x_relevance_model": name} if name else {})).json()
        assert answer["model"]["version"] == version
        assert [each["score"] for each in answer["scores"]] == pytest.approx(expected[version], abs=1e-5)
    assert "'old': expected active or challenger" in problem(
        asked(client, x_relevance_model="old"), 422, "invalid_request"
    )
    ranked = {"query": QUERY, "texts": CANDIDATES}
    for model, header, version in (("qc", "challenger", b), (b, "active", b), (a, "challenger", a)):  # by version
        answer = asked(client, "/rerank", ranked | {"model": model}, x_relevance_model=header)
        assert answer.headers["x-model-version"] == version
    changed(admin, "b", "canary", share=0.3)
    chosen = [asked(client, x_request_id=f"id-{n}").json()["model"]["version"] for n in range(100)]
    again = [asked(client, x_request_id=f"id-{n}").json()["model"]["version"] for n in range(100)]
    assert chosen == again
    assert 15 <= chosen.count(b) <= 45
    assert admin.delete("/v1/admin/models/qc/challenger").json()["challenger"] is None
    assert asked(client, x_request_id=f"id-{chosen.index(b)}").json()["model"]["version"] == a
    assert "relevance_shadow_pairs_total{" in client.get("/metrics").text


def by_client(kind, url, **options):
    """Score CANDIDATES in chunks of 2 with either client; return the versions that the result names, and its scores."""
    policy = {"max_candidates": 2, "retry": RetryPolicy(attempts=20, base_seconds=0.01, cap_seconds=0.05)}
    if kind is Client:
        with Client(url, **policy) as client:
            result = client.score("qc", QUERY, CANDIDATES, **options)
    else:
        result = asyncio.run(by_async_client(url, policy, options))
    return [model.version for model in result.models], list(result.scores)


async def by_async_client(url, policy, options):
    async with AsyncClient(url, **policy) as client:
        return await client.score("qc", QUERY, CANDIDATES, **options)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_one_model_answers_all_chunks_of_a_call_beside_a_challenger(service, versions, expected, kind):
    client, admin = service
    changed(admin, "b", "canary", share=0.5)
    found = [by_client(kind, str(client.base_url), request_id=f"call-{number}") for number in range(24)]
    for seen, scores in found:
        (version,) = seen
        assert scores == pytest.approx(expected[version], abs=1e-5)
    assert {version for (version,), _ in found} == set(versions.values())
    again = [by_client(kind, str(client.base_url), request_id=f"call-{number}")[0] for number in range(24)]
    assert again == [seen for seen, _ in found]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_one_model_answers_a_call_though_models_are_switched_meanwhile(service, versions, expected, kind):
    client, admin = service
    done, found = threading.Event(), []

    def call():
        while not done.is_set():
            found.append(by_client(kind, str(client.base_url)))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        calling = [pool.submit(call) for _ in range(3)]
        try:
            for name in itertools.islice(itertools.cycle("ba"), SWITCHES):
                changed(admin, name)
        finally:
            done.set()
        for each in calling:
            each.result()
    for seen, scores in found:
        (version,) = seen
        assert scores == pytest.approx(expected[version], abs=1e-5)


@pytest.mark.parametrize("name", ["an id with blanks", "\u00fcmlaut", "x" * 500])
def test_id_that_is_not_valid_for_the_log_still_selects_one_model(service, name):
    client, admin = service
    changed(admin, "b", "canary", share=0.5)
    headers = {"x-request-id": name.encode()}
    found = {client.post("/v1/score", json=BODY, headers=headers).json()["model"]["version"] for _ in range(12)}
    assert len(found) == 1


def test_admin_interface_refuses_what_it_must(service, root):
    client, admin = service
    url = "/v1/admin/models/qc"
    outside = ["/", "/etc", "..", "../outside", str(root.parent / "outside"), "a/../../outside", "way-out", "circle"]
    for name in [*outside, ".", "nothing", "a/model.onnx", "x" * 4000, "a\0b", str(root)]:
        detail = problem(admin.post(url, json={"bundle": name, "mode": "switch"}), 422, "invalid_request")
        assert f"expected a folder below {root}" in detail
    for body in ({"bundle": "b"}, {"bundle": "b", "mode": "swap"}, {"bundle": "b", "mode": "switch", "share": 0.1}):
        problem(admin.post(url, json=body), 422, "invalid_request")
    for share in (None, -0.1, 1.1, "much", "0.5", True):
        problem(admin.post(url, json={"bundle": "b", "mode": "canary", "share": share}), 422, "invalid_request")
    problem(admin.post("/v1/admin/models/qi", json={"bundle": "b", "mode": "switch"}), 404, "unknown_task")
    problem(admin.post(url + "/promote"), 409, "conflict")
    problem(admin.delete(url + "/challenger"), 409, "conflict")
    problem(admin.post("/v1/score", json=BODY), 404, "unknown_path")
    assert len(problem(client.get("/" + "a" * 60_000), 404, "unknown_path")) < 300
    problem(client.get("/v1/admin/models"), 404, "unknown_path")  # not on the port of the callers
    assert [admin.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


def test_admin_interface_takes_requests_of_its_own_page_only(root, tmp_path):
    path = "/v1/admin/models/qc/promote"
    with served(root) as (_, admin):
        own = f"{admin.base_url.host}:{admin.base_url.port}"
        problem(admin.post(path, headers={"origin": f"http://{own}"}), 409, "conflict")
        problem(admin.post(path, headers={"origin": "http://localhost:5", "host": "localhost:5"}), 409, "conflict")
        for origin in (
            "http://localhost",
            "http://evil.example",
            "null",
            "",
            f"http://evil@{own}",
            f"http://{own}.evil",
        ):
            detail = problem(admin.post(path, headers={"origin": origin}), 422, "invalid_request")
            assert "expected this interface's own page" in detail
        for host in ("evil.example", "evil.example:80", "[::1", "0.0.0.0"):  # a name that leads here
            headers = {"origin": f"http://{host}", "host": host}
            assert "expected 127.0.0.1 or localhost" in problem(
                admin.post(path, headers=headers), 422, "invalid_request"
            )
    (tmp_path / "keys.toml").write_text(entry("operator", "secret", ["admin"]))
    with served(root, api_keys=tmp_path / "keys.toml") as (_, admin):  # no other page has the key
        headers = {"origin": "https://admin.example", "host": "admin.example", "authorization": "Bearer secret"}
        problem(admin.post(path, headers=headers), 409, "conflict")


def test_admin_interface_has_the_page_and_the_cards(root, versions):
    with served(root) as (client, admin):
        assert admin.get("/").text == client.get("/").text
        assert (admin.get("/page/config").json()["admin"], client.get("/page/config").json()["admin"]) == (True, False)
        changed(admin, "b", "canary", share=0.5)
        cards = admin.get("/v1/admin/models/qc").json()
        assert cards == client.get("/v1/models/qc").json()
        assert [(card["role"], card["mode"], card["share"], card["version"]) for card in cards["models"]] == [
            ("active", None, None, versions["a"]),
            ("challenger", "canary", 0.5, versions["b"]),
        ]
        admin.post("/v1/admin/models/qc/promote")
        assert [card["role"] for card in client.get("/v1/models/qc").json()["models"]] == ["active", "previous"]
    with served(root, page=False) as (_, admin):
        problem(admin.get("/"), 404, "unknown_path")


def test_admin_interface_wants_a_key_of_its_scope(root, tmp_path):
    keys = {"reader": "score", "operator": "admin"}
    path = tmp_path / "keys.toml"
    path.write_text("".join(entry(name, f"secret-of-{name}", [scope]) for name, scope in keys.items()))
    with served(root, api_keys=path) as (client, admin):
        statuses = []
        for name in ("nobody", *keys):
            headers = {"authorization": f"Bearer secret-of-{name}"}
            statuses.append(admin.get("/v1/admin/models", headers=headers).status_code)
            statuses.append(client.post("/v1/score", json=BODY, headers=headers).status_code)
        assert admin.get("/healthz").status_code == 200
    assert statuses == [401, 401, 403, 200, 200, 403]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"admin_port": 0, "admin_host": "0.0.0.0"}, "api_keys with a key of scope admin"),
        ({"admin_port": 0, "bundle_root": "/nothing"}, "bundle_root /nothing: no such folder"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused_at_start(root, settings, complaint):
    process = Process({"qc": root / "a"}, **settings)
    assert process.end() == 2
    assert complaint in process.lines[-1]


def pointed(link, target):
    """Let a symbolic link lead elsewhere, as a release does: at once."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


def wait_for(condition):
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_watched_folder_is_followed_and_a_bad_bundle_refused_once(root, versions, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(root / "a")
    with running({"qc": current}, watch_seconds=0.05) as process:
        url = process.wait_ready()
        with httpx.Client(base_url=url, timeout=30) as client:
            pointed(current, root / "b")
            wait_for(lambda: by_native(client)[0] == versions["b"])
            pointed(current, root / "flipped")
            wait_for(lambda: 'changes_total{result="refused",task="qc"} 1.0' in client.get("/metrics").text)
            time.sleep(0.3)  # some more looks
            assert 'changes_total{result="refused",task="qc"} 1.0' in client.get("/metrics").text
            assert by_native(client)[0] == versions["b"]
            pointed(current, root / "nowhere")
            wait_for(lambda: "no whole bundle" in "".join(process.lines))
            time.sleep(0.3)
            assert sum("no whole bundle" in line for line in process.lines) == 1
            current.unlink()
            shutil.copytree(root / "a", current)  # a folder in its place, file by file
            wait_for(lambda: by_native(client)[0] == versions["a"])
            shutil.copytree(root / "b", tmp_path / "next")
            current.rename(tmp_path / "last")
            (tmp_path / "next").rename(current)
            wait_for(lambda: by_native(client)[0] == versions["b"])
    refusals = [json.loads(line) for line in process.lines if "bundle refused" in line]
    assert 1 <= len(refusals) <= 3  # the flipped one, and perhaps the half-copied one
