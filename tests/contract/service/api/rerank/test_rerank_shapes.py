"""The shapes of other rerankers, sent by Cohere's own client and as recorded bodies to the real service."""

import asyncio
import json
import math

import httpx
import pytest

from relevance.model.bundle import Bundle
from relevance.tasks import Pair
from service.runtime.session import Engine
from tests import DATA
from tests.serving import running
from tests.tiny import MAX_LENGTH

REQUESTS = DATA / "requests"
QUERY = "wireless earphones"
TEXTS = ["Red ceramic cup", "Bluetooth earphones, noise cancelling", "椅子", "Running shoes 42", "Earphones case"]
ROUTES = {
    "/v2/rerank": {"query": QUERY, "documents": TEXTS, "model": "qi"},
    "/v1/rerank": {"query": QUERY, "documents": TEXTS, "model": "qi"},
    "/rerank": {"query": QUERY, "texts": TEXTS, "model": "qi"},
    "/predict": {"inputs": [[QUERY, text] for text in TEXTS], "model": "qi"},
}


@pytest.fixture(scope="module")
def engines(bundles):
    return {task: Engine(Bundle.open(folder)) for task, folder in bundles.items()}


@pytest.fixture(scope="module")
def url(bundles):
    with running(bundles) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def lone(bundles):
    """A client of a service that serves one model."""
    with running({"qi": bundles["qi"]}) as process, httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def expected(engines):
    """What the raw session says of pairs: a function to their logits or scores."""

    def found(pairs, task="qi", raw=False):
        engine = engines[task]
        tokenized = engine.inputs.encode([Pair(*pair) for pair in pairs])
        logits = [float(engine.logits([each])[0]) for each in tokenized]
        return logits if raw else engine.bundle.manifest.scores(logits).tolist()

    return found


def ok(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def recorded(name):
    return json.loads((REQUESTS / name).read_text(encoding="utf-8"))


def problem(answer, status, reason):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["reason"], body["request_id"]) == (status, reason, answer.headers["x-request-id"])
    return body["detail"]


def check_ranking(found, scores, key="relevance_score", top_n=None):
    """Results must be the best `top_n` of the scores that were expected, best first."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[:top_n]
    assert [each["index"] for each in found] == order
    assert [each[key] for each in found] == pytest.approx([scores[place] for place in order], abs=1e-5)


# Cohere, by its own client


@pytest.fixture(scope="module")
def cohere():
    return pytest.importorskip("cohere", reason="needs the package cohere")


def test_cohere_v2_client_ranks(cohere, url, expected):
    with cohere.ClientV2(api_key="any", base_url=url) as client:
        answer = client.rerank(model="qi", query=QUERY, documents=TEXTS, top_n=3, max_tokens_per_doc=4096, priority=1)
    found = [{"index": each.index, "relevance_score": each.relevance_score} for each in answer.results]
    check_ranking(found, expected([(QUERY, text) for text in TEXTS]), top_n=3)
    assert len(answer.id) == 32
    assert answer.meta.api_version.version == "2"
    assert answer.meta.tokens.input_tokens == sum(len((QUERY + text).encode()) + 4 for text in TEXTS)
    assert answer.meta.warnings is None


def test_cohere_v1_client_ranks_objects_by_their_fields(cohere, url, expected):
    documents = [{"title": text, "brand": f"B{n}", "id": str(n)} for n, text in enumerate(TEXTS)]
    with cohere.Client(api_key="any", base_url=url) as client:
        answer = client.rerank(
            model="qi", query=QUERY, documents=documents, rank_fields=["brand", "title"], return_documents=True
        )
    scores = expected([(QUERY, f"B{n} {text}") for n, text in enumerate(TEXTS)])
    check_ranking([{"index": each.index, "relevance_score": each.relevance_score} for each in answer.results], scores)
    assert [each.document.id for each in answer.results] == [str(each.index) for each in answer.results]
    assert answer.meta.api_version.version == "1"


def test_cohere_client_reads_our_errors(cohere, url):
    with cohere.ClientV2(api_key="any", base_url=url) as client:
        with pytest.raises(cohere.NotFoundError) as caught:
            client.rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS)
        assert "'rerank-v3.5' is not served here" in caught.value.body["detail"]
        with pytest.raises(cohere.UnprocessableEntityError, match="`documents` is empty"):
            client.rerank(model="qi", query=QUERY, documents=[])


def test_cohere_async_client_ranks(cohere, url, expected):
    async def run():
        async with cohere.AsyncClientV2(api_key="any", base_url=url) as client:
            return await client.rerank(model="qc", query=QUERY, documents=TEXTS)

    found = [{"index": each.index, "relevance_score": each.relevance_score} for each in asyncio.run(run()).results]
    check_ranking(found, expected([(QUERY, text) for text in TEXTS], "qc"))


# Recorded bodies


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("elasticsearch_cohere_v1.json", "/v1/rerank"),
        ("elasticsearch_cohere_v2.json", "/v2/rerank"),
        ("elasticsearch_jinaai.json", "/v1/rerank"),
        ("jina.json", "/v1/rerank"),
        ("opensearch_cohere.json", "/v1/rerank"),
    ],
)
def test_recorded_cohere_and_jina_bodies(client, expected, name, route):
    body = recorded(name)
    answer = ok(client.post(route, json=body))
    texts = [each if isinstance(each, str) else each["text"] for each in body["documents"]]
    check_ranking(answer["results"], expected([(body["query"], text) for text in texts]), top_n=body["top_n"])
    for each in answer["results"]:  # Elasticsearch fails on any other key, LiteLLM on a document that is null
        assert each.keys() == {"index", "relevance_score"} | ({"document"} if body.get("return_documents") else set())
        assert each.get("document", {"text": texts[each["index"]]}) == {"text": texts[each["index"]]}
    assert list(answer)[:2] == ["id", "results"]  # Elasticsearch skips to `results`


def test_jina_usage_counts_tokens(client):
    body = {"model": "qi", "query": "cup", "documents": ["red cup", "x" * 500]}
    answer = ok(client.post("/v1/rerank", json=body))
    assert answer["usage"] == {"prompt_tokens": 14 + MAX_LENGTH, "total_tokens": 14 + MAX_LENGTH}
    assert answer["model"] == "tiny-qi-2"


@pytest.mark.parametrize("name", ["tei_rerank.json", "opensearch_tei.json", "elasticsearch_hugging_face.json"])
def test_recorded_tei_rerank_bodies(lone, expected, name):
    body = recorded(name)
    texts = body.get("texts") or body["documents"]
    answer = ok(lone.post("/rerank", json=body))
    check_ranking(answer, expected([(body["query"], text) for text in texts]), "score", body.get("top_n"))
    with_text = body.get("return_text") or body.get("return_documents")
    for each in answer:  # Elasticsearch fails on any other key
        assert each.keys() == {"index", "score"} | ({"text"} if with_text else set())
        assert not with_text or each["text"] == texts[each["index"]]


def test_tei_predict_answers_a_pair_flat_and_a_batch_nested(lone, expected):
    pair, batch = recorded("tei_predict_pair.json"), recorded("tei_predict_batch.json")
    (one,) = ok(lone.post("/predict", json=pair))
    assert one["score"] == pytest.approx(expected([pair["inputs"]])[0], abs=1e-5)
    found = ok(lone.post("/predict", json=batch))
    assert [len(each) for each in found] == [1, 1]
    assert [each[0]["score"] for each in found] == pytest.approx(expected(batch["inputs"]), abs=1e-5)
    assert {each[0]["label"] for each in found} == {"LABEL_0"}


def test_opensearch_pairs_are_answered_flat_and_in_order(lone, expected):
    body = recorded("opensearch_text_pairs.json")
    found = ok(lone.post("/predict", json=body))
    scores = expected([(each["text"], each["text_pair"]) for each in body["inputs"]])
    assert [each["score"] for each in found] == pytest.approx(scores, abs=1e-5)
    assert all(each.keys() == {"label", "score"} for each in found)
    (alone,) = ok(lone.post("/predict", json={"inputs": body["inputs"][0]}))
    assert alone["score"] == pytest.approx(scores[0], abs=1e-5)


# Details


@pytest.mark.parametrize("route", ["/rerank", "/predict"])
def test_raw_scores_are_logits(client, expected, route):
    found = ok(client.post(route, json=ROUTES[route] | {"raw_scores": True}))
    logits = expected([(QUERY, text) for text in TEXTS], raw=True)
    if route == "/rerank":
        check_ranking(found, logits, "score")
    else:
        assert [each[0]["score"] for each in found] == pytest.approx(logits, abs=1e-4)
    assert min(logits) < 0 or max(logits) > 1


@pytest.mark.parametrize("route", ROUTES)
def test_headers_hold_what_the_shapes_have_no_place_for(client, engines, route):
    answer = client.post(route, json=ROUTES[route], headers={"x-request-id": "mine-1"})
    ok(answer)
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-model-version"] == engines["qi"].bundle.manifest.version
    assert answer.headers["x-truncated-pairs"] == "0"
    assert int(answer.headers["x-compute-tokens"]) == sum(len((QUERY + text).encode()) + 4 for text in TEXTS)


def test_truncation_is_reported(client):
    long = ["y" * 200, "short", "x" * 200]
    answer = client.post("/v2/rerank", json={"model": "qi", "query": "q", "documents": long})
    assert ok(answer)["meta"]["warnings"] == [
        f"cut to the {MAX_LENGTH} tokens that the model reads: documents[0], documents[2]"
    ]
    assert answer.headers["x-truncated-pairs"] == "2"
    answer = client.post("/rerank", json={"model": "qi", "query": "q", "texts": long, "truncate": True})
    assert ok(answer)
    assert answer.headers["x-truncated-pairs"] == "2"


def test_truncate_false_refuses_long_pairs(client):
    body = {"model": "qi", "query": "q", "texts": ["short", "x" * 200], "truncate": False}
    assert "texts[1]: with its query longer than" in problem(client.post("/rerank", json=body), 413, "too_large")
    body = {"model": "qi", "inputs": [{"text": "q", "text_pair": "x" * 200}], "truncate": False}
    detail = problem(client.post("/predict", json=body), 413, "too_large")
    assert "inputs[0].text_pair" in detail


def test_equal_scores_keep_the_order_of_the_request(client):
    answer = ok(client.post("/v2/rerank", json={"model": "qi", "query": "q", "documents": ["same"] * 20}))
    assert [each["index"] for each in answer["results"]] == list(range(20))


@pytest.mark.parametrize("name", ["qc", "tiny-qc-1", "version"])
def test_model_is_named_by_task_name_or_version(client, engines, expected, name):
    name = engines["qc"].bundle.manifest.version if name == "version" else name
    scores = expected([(QUERY, text) for text in TEXTS], "qc")
    check_ranking(ok(client.post("/v1/rerank", json=ROUTES["/v1/rerank"] | {"model": name}))["results"], scores)
    by_address = {"query": QUERY, "texts": TEXTS}
    check_ranking(ok(client.post(f"/rerank?model={name}", json=by_address)), scores, "score")


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_name_the_only_model_scores(client, lone, route):
    body = {key: value for key, value in ROUTES[route].items() if key != "model"}
    assert ok(lone.post(route, json=body)) is not None
    detail = problem(client.post(route, json=body), 422, "invalid_request")
    assert "`model` is missing and 2 are served" in detail
    assert "'qc' (tiny-qc-1, version" in detail
    assert "'qi' (tiny-qi-2, version" in detail


@pytest.mark.parametrize("route", ROUTES)
def test_unknown_model_names_the_served_ones(lone, route):
    detail = problem(lone.post(route, json=ROUTES[route] | {"model": "rerank-v9"}), 404, "unknown_task")
    assert "'rerank-v9' is not served here; expected 'qi' (tiny-qi-2" in detail


@pytest.mark.parametrize(("route", "status"), [("/v2/rerank", 422), ("/v1/rerank", 200), ("/rerank", 200)])
def test_unknown_keys_are_treated_as_the_real_servers_do(client, route, status):
    answer = client.post(route, json=ROUTES[route] | {"top_k": 3})
    assert answer.status_code == status
    assert status == 200 or "top_k: unknown key" in problem(answer, 422, "invalid_request")


@pytest.mark.parametrize(
    ("route", "change", "said"),
    [
        ("/v2/rerank", {"documents": []}, "`documents` is empty"),
        ("/v2/rerank", {"documents": ["a", {"title": "b"}]}, "documents[1]: expected a text, or an object"),
        ("/v2/rerank", {"documents": ["a", {"text": 3}]}, "documents[1]: expected a text, or an object"),
        ("/v2/rerank", {"documents": ["a", 3]}, "documents.1"),
        ("/v2/rerank", {"top_n": 0}, "top_n: Input should be greater"),
        ("/v2/rerank", {"max_tokens_per_doc": 5}, f"max_tokens_per_doc: 5, expected at least {MAX_LENGTH}"),
        ("/v1/rerank", {"query": None}, "query: Input should be a valid string"),
        ("/v1/rerank", {"rank_fields": ["a"], "documents": [{"b": "c"}]}, "text under ['a']"),
        (
            "/v1/rerank",
            {"rank_fields": ["a", "a"], "documents": [{"a": "c"}]},
            "rank_fields: 2 keys, expected each once",
        ),
        ("/rerank", {"texts": None}, "expected either `texts` or `documents`"),
        ("/rerank", {"documents": ["a"]}, "expected either `texts` or `documents`"),
        ("/rerank", {"raw_scores": "yes"}, "raw_scores: Input should be a valid boolean"),
        ("/predict", {"inputs": [["a", "b"], [" ", "b"]]}, "inputs[1][0]: blank"),
        ("/predict", {"inputs": {"text": " ", "text_pair": ""}}, "inputs.text: blank"),
        ("/predict", {"inputs": "a"}, "expected a pair [query, candidate]"),
        ("/predict", {"inputs": []}, "`inputs` is empty"),
        ("/predict", {"inputs": ["a"]}, "inputs.pair"),
        ("/predict", {"inputs": ["a", "b", "c"]}, "inputs.pair"),
        ("/predict", {"inputs": [["a"]]}, "inputs.pairs.0"),
        ("/predict", {"inputs": [{"text": "a"}]}, "inputs.objects.0.text_pair: Field required"),
        ("/predict", {"inputs": [{"text": " ", "text_pair": "b"}]}, "inputs[0].text: blank"),
    ],
)
def test_wrong_bodies_say_what_and_where(client, route, change, said):
    assert said in problem(client.post(route, json=ROUTES[route] | change), 422, "invalid_request")


@pytest.mark.parametrize("route", ROUTES)
def test_limits_hold_here_too(client, route):
    body = json.loads(json.dumps(ROUTES[route]))
    key = {"/rerank": "texts", "/predict": "inputs"}.get(route, "documents")
    body[key] = body[key][:1] * 2000
    assert f"{key}: 2000 of them" in problem(client.post(route, json=body), 413, "too_large")


def test_numbers_are_finite_json(client):
    body = ROUTES["/predict"] | {"raw_scores": True, "inputs": [["q", "z" * n] for n in range(1, 90)]}
    assert all(math.isfinite(each[0]["score"]) for each in ok(client.post("/predict", json=body)))


def test_openapi_describes_the_shapes_with_examples_that_work(client):
    page = client.get("/openapi.json").json()
    for route in ROUTES:
        post = page["paths"][route]["post"]
        assert {"200", "404", "413", "422", "429", "503"} <= post["responses"].keys()
        assert post["responses"]["200"]["content"]["application/json"]["schema"]
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        examples = page["components"]["schemas"][name]["examples"]
        assert examples
        for example in examples:
            ok(client.post(route, json=example))


@pytest.mark.parametrize(("value", "status"), [("NaN", 422), ("-Infinity", 422), ('"\\ud800"', 200)])
def test_documents_that_json_cannot_hold_are_refused_before_scoring(client, value, status):
    body = '{"model":"qi","query":"q","documents":[{"text":"ok","x":' + value + '}],"return_documents":true}'
    answer = client.post("/v1/rerank", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
