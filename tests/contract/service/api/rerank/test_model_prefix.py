"""Addresses that name the model, `/models/qi/rerank`: right model, and the plain routes' limits, keys and metrics."""

import httpx
import pytest

from relevance.tasks import Task
from service.api.app import create_app
from service.api.rerank import cohere, jina, predict, tei
from service.auth.key_file import entry, new_secret
from service.settings import Settings
from tests.serving import in_process, running

QUERY, TEXTS = "wireless earphones", ["Red cup", "Bluetooth earphones", "Shoes"]
BODIES = {
    "/rerank": {"query": QUERY, "texts": TEXTS},
    "/v1/rerank": {"query": QUERY, "documents": TEXTS},
    "/v2/rerank": {"query": QUERY, "documents": TEXTS},
    "/predict": {"inputs": [[QUERY, text] for text in TEXTS]},
}


@pytest.fixture(scope="module")
def client(bundles):
    with running(bundles) as process, httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        yield client


def results(answer):
    """Index and score of each result."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    flat = body["results"] if isinstance(body, dict) else [each[0] if isinstance(each, list) else each for each in body]
    return [(each.get("index"), each.get("score", each.get("relevance_score"))) for each in flat]


def test_every_route_of_other_rerankers_has_a_prefix():
    assert (
        {route.path for shape in (cohere, jina, tei, predict) for route in shape.router.routes}
        == {*create_app(Settings(), {}).state.policies.prefixed}
        == {*BODIES}
    )


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("task", ["qc", "qi"])
def test_address_chooses_the_model(client, versions, path, task):
    plain = client.post(path, json=BODIES[path] | {"model": task})
    for name in (task, f"tiny-{task}-{1 if task == 'qc' else 2}", versions[task]):
        answer = client.post(f"/models/{name}{path}", json=BODIES[path])
        assert [index for index, _ in results(answer)] == [index for index, _ in results(plain)]
        scores = [score for _, score in results(plain)]
        assert [score for _, score in results(answer)] == pytest.approx(scores, abs=1e-5)
        assert answer.headers["x-model-version"] == versions[task]


@pytest.mark.parametrize("path", BODIES)
def test_model_in_the_body_pins_a_version_or_contradicts_or_is_of_no_meaning(client, versions, path):
    for name in ("rerank-v3.5", "", "qi", "tiny-qi-2", versions["qi"], None):
        answer = client.post(f"/models/qi{path}", json=BODIES[path] | {"model": name})
        assert answer.headers["x-model-version"] == versions["qi"], answer.text
    for name in ("qc", "tiny-qc-1", versions["qc"]):
        answer = client.post(f"/models/qi{path}", json=BODIES[path] | {"model": name})
        assert answer.status_code == 422
        assert "the address asks for 'qi'" in answer.json()["detail"]


@pytest.mark.parametrize("path", BODIES)
def test_unknown_model_in_the_address_names_the_served_ones(client, path):
    answer = client.post(f"/models/nothing/here{path}", json=BODIES[path] | {"model": "qi"})
    assert answer.status_code == 404
    assert "model 'nothing/here' is not served here; expected 'qc' (tiny-qc-1" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/models/qi", "/models/qi/v1/score", "/models//rerank", "/models/qi/rerank/", "/xmodels/qi/rerank"]
)
def test_other_addresses_are_unknown(client, path):
    answer = client.post(path, json=BODIES["/rerank"])
    assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_path")


@pytest.mark.parametrize("path", BODIES)
def test_wrong_method_and_large_body_are_refused_as_at_the_plain_route(client, path):
    for plain in ({"method": "GET"}, {"method": "POST", "json": {"model": "x" * 2**21}}):
        prefixed = client.request(url=f"/models/qi{path}", **plain)
        assert prefixed.status_code == client.request(url=path, **plain).status_code
        assert prefixed.status_code in (405, 413)


def test_metrics_and_log_name_the_plain_route(bundles):
    with running(bundles) as process, httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        for path in BODIES:
            assert client.post(f"/models/qi{path}", json=BODIES[path]).status_code == 200
        page = client.get("/metrics").text
        for path in BODIES:
            assert f'relevance_requests_total{{route="{path}",status="200"}} 1.0' in page
        assert 'relevance_requests_total{route="other",status="200"} 0.0' in page
        assert '="/models/' not in page


def test_cap_of_requests_holds(bundles):
    async def scenario(client, service):
        service.in_work = 5  # as many as may be
        return [await client.post(f"/models/qi{path}", json=BODIES[path]) for path in BODIES]

    for answer in in_process({Task.QI: bundles["qi"]}, scenario, max_requests=5):
        assert (answer.status_code, answer.json()["reason"]) == (429, "too_many_requests")


def test_keys_are_needed_and_their_scopes_hold(bundles, tmp_path):
    secrets = {scope: new_secret() for scope in ("score", "metrics")}
    keys = tmp_path / "keys.toml"
    keys.write_text("\n".join(entry(scope, secret, (scope,)) for scope, secret in secrets.items()), encoding="utf-8")

    async def scenario(client, service):
        found = []
        for path in BODIES:
            for scope in (None, "metrics", "score"):
                headers = {"authorization": f"Bearer {secrets[scope]}"} if scope else {}
                answer = await client.post(f"/models/qi{path}", json=BODIES[path], headers=headers)
                found.append(answer.status_code)
        return found

    assert in_process({Task.QI: bundles["qi"]}, scenario, api_keys=keys) == [401, 403, 200] * len(BODIES)


def test_openapi_page_has_the_prefixed_routes(client):
    page = client.get("/openapi.json").json()
    for path in BODIES:
        post = page["paths"]["/models/{model}" + path]["post"]
        assert [each["in"] for each in post["parameters"]] == ["path"]
        assert post["requestBody"] == page["paths"][path]["post"]["requestBody"]
    ids = [post["operationId"] for operations in page["paths"].values() for post in operations.values()]
    assert len(ids) == len({*ids})
