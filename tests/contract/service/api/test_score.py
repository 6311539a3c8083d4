"""The HTTP interface, against a real process."""

import concurrent.futures
import importlib.util
import json
import random
import time

import httpx
import pytest

from relevance.model.bundle import Bundle
from relevance.tasks import Pair
from service.runtime.session import Engine
from tests import ROOT
from tests.serving import running
from tests.tiny import MAX_LENGTH

SPEC = importlib.util.spec_from_file_location("demo_readme", ROOT / "benchmarks" / "demo" / "readme.py")
demo_readme = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo_readme)
README = (ROOT / "README.md").read_text(encoding="utf-8")

QC_PATHS = ["Consumer Electronics,Earphones & Headphones", "Home & Garden,Kitchen", "Sports,Running Shoes"]


@pytest.fixture(scope="module")
def process(bundles):
    with running(bundles, concurrent_runs=1) as process:  # so that a request of two pairs is one run
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def client(process):
    with httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        yield client


def fields(value):
    """Return the keys of a JSON value, at all levels."""
    if isinstance(value, list):
        return [fields(each) for each in value]
    return {key: fields(each) for key, each in value.items()} if isinstance(value, dict) else []


def test_answer_that_the_readme_shows_has_the_fields_of_an_answer(client):
    request, answer = demo_readme.request(README), json.loads(demo_readme.ANSWER.search(README)[0])
    found = scored(client, request)
    assert fields(found) == fields(answer)
    assert [len(each["scores"]) for each in (found, answer)] == [len(request["candidates"])] * 2
    assert list(found["thresholds"]) == list(answer["thresholds"])


def scored(client, body):
    answer = client.post("/v1/score", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer, status, reason):
    """The problem details of an answer that must have this status and reason."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["reason"]) == (status, reason)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail"} <= body.keys()
    return body


def expected_scores(folder, pairs):
    engine = Engine(Bundle.open(folder))
    manifest = engine.bundle.manifest
    alone = [float(engine.logits([each])[0]) for each in engine.inputs.encode(pairs)]
    return manifest.scores(alone).tolist()


def test_candidates_are_scored_in_their_order(client, bundles):
    answer = scored(client, {"task": "qc", "query": "耳机", "candidates": QC_PATHS, "language": "zh"})
    expected = expected_scores(bundles["qc"], [Pair("耳机", path, "zh") for path in QC_PATHS])
    assert [each["score"] for each in answer["scores"]] == pytest.approx(expected, abs=1e-5)
    manifest = Bundle.open(bundles["qc"]).manifest
    assert answer["model"] == {"name": manifest.name, "version": manifest.version}
    assert answer["usage"]["pairs"] == 3


def test_pairs_are_scored_in_their_order(client, bundles):
    pairs = [
        Pair("sapatos", "Shoes 42", "pt"),
        Pair("ワイヤレスイヤホン", "Bottle", "ja"),
        Pair("shoes", "Shoes 42", "en"),
    ]
    body = [{"query": p.query, "candidate": p.candidate, "language": p.language} for p in pairs]
    answer = scored(client, {"task": "qi", "pairs": body})
    expected = expected_scores(bundles["qi"], pairs)
    assert [each["score"] for each in answer["scores"]] == pytest.approx(expected, abs=1e-5)


def test_labels_follow_the_threshold_of_the_language(client):
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [
        {"query": a, "candidate": b * 3, "language": code} for a in letters for b in "qxz" for code in ("en", "ja")
    ]
    answer = scored(client, {"task": "qi", "pairs": pairs})
    assert answer["thresholds"] == {"en": 0.5, "ja": 0.9}
    limits = [answer["thresholds"][pair["language"]] for pair in pairs]
    assert [s["label"] for s in answer["scores"]] == [
        int(s["score"] >= limit) for s, limit in zip(answer["scores"], limits, strict=True)
    ]
    assert {s["label"] for s in answer["scores"]} == {0, 1}
    assert any(0.5 <= s["score"] < 0.9 for s in answer["scores"])


@pytest.mark.parametrize("tag", ["ja-JP", "ja_JP", "JA", "jpn", "jp", " ja-Jpan-JP-u-ca-japanese "])
def test_region_and_script_of_a_language_fall_back_to_its_threshold(client, tag):
    body = {"query": "shoes", "candidate": "Shoes 42", "language": tag}
    assert scored(client, {"task": "qi", "pairs": [body]})["thresholds"] == {"ja": 0.9}
    assert scored(client, {"task": "qi", "query": "a", "candidates": ["b"], "language": tag})["thresholds"] == {
        "ja": 0.9
    }


@pytest.mark.parametrize("tag", ["xx", "none", "", "../x", "\u65e5\u672c\u8a9e"])
def test_a_tag_of_no_known_language_counts_as_none(client, tag):
    answer = scored(client, {"task": "qi", "query": "a", "candidates": ["b"], "language": tag})
    assert answer["thresholds"] == {"unk": 0.5}


def test_no_language_uses_the_overall_threshold(client):
    answer = scored(client, {"task": "qi", "query": "shoes", "candidates": ["Shoes"]})
    assert answer["thresholds"] == {"unk": 0.5}


def test_truncation_is_reported(client):
    answer = scored(client, {"task": "qi", "query": "shoes", "candidates": ["Shoes", "x" * 500, "Socks", "y" * 500]})
    assert answer["truncated"] == [1, 3]
    assert answer["usage"]["tokens"] == 2 * MAX_LENGTH + 2 * (len("shoesShoes") + 4)


def test_concurrent_requests_score_as_they_do_alone(client):
    rng = random.Random(0)

    def text():
        return "".join(rng.choices("abc xyz", k=rng.randint(1, 60))) + "."

    bodies = [
        {"task": rng.choice(["qc", "qi"]), "query": text(), "candidates": [text() for _ in range(size)]}
        for size in [1, 200, 3, 50, 1, 120, 7, 1]
    ]
    alone = [[s["score"] for s in scored(client, body)["scores"]] for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda body: [s["score"] for s in scored(client, body)["scores"]], bodies * 3))
    for expected, found in zip(alone * 3, together, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_unknown_task_names_the_served_ones(client):
    answer = client.post("/v1/score", json={"task": "qx", "query": "a", "candidates": ["b"]})
    assert "qc, qi" in problem(answer, 404, "unknown_task")["detail"]


def test_10000_candidates_are_too_many(client):
    answer = client.post("/v1/score", json={"task": "qc", "query": "a", "candidates": ["b"] * 10_000})
    assert "10000 of them, expected at most 1000" in problem(answer, 413, "too_large")["detail"]


def test_1_mb_query_is_too_long(client):
    answer = client.post("/v1/score", json={"task": "qc", "query": "a" * 1_000_000, "candidates": ["b"]})
    detail = problem(answer, 413, "too_large")["detail"]
    assert "query: 1000000 characters, expected at most 1000" in detail
    assert len(answer.content) < 1000


def test_long_candidate_is_named(client):
    answer = client.post("/v1/score", json={"task": "qc", "query": "a", "candidates": ["b", "c" * 4001]})
    assert "candidates[1]: 4001 characters" in problem(answer, 413, "too_large")["detail"]


@pytest.mark.parametrize("size", [3 * 2**20, 20 * 2**20])
def test_large_body_is_refused_before_it_is_parsed(client, size):
    answer = client.post("/v1/score", content=b"[" * size, headers={"content-type": "application/json"})
    problem(answer, 413, "too_large")


def test_large_body_in_chunks_is_refused(client):
    chunks = (b"[" * 65536 for _ in range(64))
    answer = client.post("/v1/score", content=chunks, headers={"content-type": "application/json"})
    problem(answer, 413, "too_large")


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"task": qc}', b"[" * 100_000], ids=repr)
def test_malformed_json_is_refused(client, body):
    answer = client.post("/v1/score", content=body, headers={"content-type": "application/json"})
    problem(answer, 422 if not body else 400, "invalid_request" if not body else "malformed_json")


def test_body_not_declared_as_json_is_refused(client):
    answer = client.post("/v1/score", data={"task": "qc"})
    assert "application/json" in problem(answer, 415, "media_type")["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"task": "qc", "query": "a"}, "expected `query` and `candidates`, or `pairs`"),
        ({"task": "qc"}, "expected `query` and `candidates`, or `pairs`"),
        ({"task": "qc", "query": "a", "candidates": ["b"], "pairs": [{"query": "a", "candidate": "b"}]}, "not both"),
        ({"task": "qc", "language": "en", "pairs": [{"query": "a", "candidate": "b"}]}, "not both"),
        ({"task": "qc", "query": "a", "candidates": []}, "`candidates` is empty"),
        ({"task": "qc", "pairs": []}, "`pairs` is empty"),
        ({"task": "qc", "query": " \t", "candidates": ["b"]}, "query: blank"),
        ({"task": "qc", "query": "a", "candidates": ["b", "\u3000\n"]}, "candidates[1]: blank"),
        (
            {"task": "qc", "pairs": [{"query": "a", "candidate": "b"}, {"query": "", "candidate": "b"}]},
            "pairs[1].query",
        ),
        ({"task": "qc", "query": "a", "candidates": ["b"], "top_k": 3}, "top_k: unknown key"),
        ({"task": "qc", "querry": "a", "candidates": ["b"]}, "querry: unknown key; did you mean `query`?"),
        (
            {"task": "qc", "pairs": [{"query": "a", "candidate": "b", "lang": "en"}]},
            "pairs.0.lang: unknown key; did you mean `language`?",
        ),
        ({"task": "qc", "query": "a", "candidates": ["b", 3]}, "candidates.1: Input should be a valid string"),
        ({"task": "qc", "query": "a", "candidates": "b"}, "candidates: Input should be a valid list"),
        (
            {"task": "qc", "query": "a", "candidates": ["b"], "language": "x" * 101},
            "language: String should have at most 100",
        ),
        ({"query": "a", "candidates": ["b"]}, "task: Field required"),
        ([], "body: Input should be"),
    ],
)
def test_invalid_request_says_what_and_where(client, body, said):
    answer = client.post("/v1/score", json=body)
    assert said in problem(answer, 422, "invalid_request")["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (rb'{"task": "qc", "query": "\ud800", "candidates": ["b"]}', "query: half of a surrogate pair"),
        (rb'{"task": "qc", "query": "a", "candidates": ["b", "\udfff!"]}', "candidates[1]: half of a surrogate pair"),
        (rb'{"task": "qc", "query": "a", "candidates": ["b"], "\ud800": 1}', "unicode"),
    ],
)
def test_lone_surrogate_is_refused(client, body, said):
    answer = client.post("/v1/score", content=body, headers={"content-type": "application/json"})
    assert said in problem(answer, 422, "invalid_request")["detail"]


def test_many_faults_are_cut(client):
    unknown = {f"key{n}": 1 for n in range(100)}
    answer = client.post("/v1/score", json={"task": "qc", "query": "a", "candidates": ["b"]} | unknown)
    assert "and 90 more" in problem(answer, 422, "invalid_request")["detail"]
    assert len(answer.json()["errors"]) == 10


def test_only_the_first_wrong_element_of_a_list_is_named(client):
    answer = client.post("/v1/score", json={"task": "qc", "query": "a", "candidates": ["b"] + [1] * 900})
    assert problem(answer, 422, "invalid_request")["detail"] == "candidates.1: Input should be a valid string"


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/qc/ready", "/v1/models"],
)
def test_head_is_get_without_a_body(client, path):
    answer, whole = client.head(path), client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == whole.headers["content-type"]
    assert int(answer.headers["content-length"]) > 0
    assert client.head("/v1/score").status_code == 405
    assert client.head("/nothing").status_code == 404


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/predict"])
@pytest.mark.parametrize(("body", "status"), [("{", 400), ("{}", 422), ('{"query":"a","model":"no"}', 422)])
def test_errors_carry_the_keys_that_the_clients_of_a_route_read(client, path, body, status):
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    found = answer.json()
    assert found["status"] == answer.status_code == status
    if path in ("/rerank", "/predict"):
        assert (found["error"], found["error_type"]) == (found["detail"], "Validation")
    else:
        assert found["message"] == found["detail"]


def test_unknown_path_and_method_are_problems(client):
    problem(client.get("/v1/nothing"), 404, "unknown_path")
    answer = client.get("/v1/score")
    problem(answer, 405, "method")
    assert answer.headers["allow"] == "POST"


def test_path_that_only_looks_like_a_route_is_not_counted_as_it(client):
    series = 'relevance_requests_total{route="/v1/score",status="404"}'
    before = metric(client, series)
    problem(client.post("/v1/score%3Ftask=qc"), 404, "unknown_path")
    assert metric(client, series) == before


def test_request_id_is_kept_or_made(client):
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = [
        client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"] for bad in ("", "a b", "x" * 200)
    ]
    assert all(len(each) == 32 for each in made)
    assert len(set(made)) == 3


def test_models_are_listed(client, bundles):
    listed = client.get("/v1/models").json()["models"]
    assert [model["task"] for model in listed] == ["qc", "qi"]
    manifest = Bundle.open(bundles["qc"]).manifest
    expected = {"name": manifest.name, "version": manifest.version, "threshold": 0.5, "precision": "fp32"}
    expected |= {"max_length": MAX_LENGTH, "base_model": "tiny", "languages": ["en", "es"], "device": "cpu"}
    assert expected.items() <= listed[0].items()
    assert listed[0]["rerank_advice"] == {"en": "rerank", "ja": "keep_order"}


def test_health_and_readiness(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def metric(client, series):
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    return float(lines[series])


def test_metrics_count_requests_pairs_and_padding(client):
    def read():
        names = ['relevance_requests_total{route="/v1/score",status="200"}', 'relevance_batch_pairs_sum{task="qi"}']
        names += ['relevance_padding_tokens_total{task="qi"}', 'relevance_truncated_pairs_total{task="qi"}']
        names += [
            'relevance_request_duration_seconds_count{pairs="2-10",route="/v1/score",task="qi"}',
            'relevance_run_duration_seconds_count{pairs="2-10",route="/v1/score",task="qi"}',
            'relevance_serialize_duration_seconds_count{pairs="2-10",route="/v1/score",task="qi"}',
            'relevance_batch_duration_seconds_count{task="qi"}',
            'relevance_admitted_requests_total{task="qi"}',
        ]
        return [metric(client, name) for name in names]

    before = read()
    scored(client, {"task": "qi", "query": "shoes", "candidates": ["x" * (MAX_LENGTH - 15), "x" * 500]})
    assert [b - a for a, b in zip(before, read(), strict=True)] == [1, 2, 6, 1, 1, 1, 1, 1, 1]
    assert metric(client, 'relevance_queued_tokens{priority="interactive",task="qi"}') == 0
    assert metric(client, "relevance_ready") == 1


def test_parts_of_requests_are_counted_by_route(client):
    def counts(route):
        labels = f'{{pairs="2-10",route="{route}",task="qi"}}'
        parts = ("queue", "tokenize", "run", "serialize")
        return [metric(client, f"relevance_{part}_duration_seconds_count{labels}") for part in parts]

    body = {"model": "qi", "query": "shoes", "documents": ["Red Shoes", "Blue Cup"]}
    assert client.post("/v2/rerank", json=body).status_code == 200
    ranking, scoring = counts("/v2/rerank"), counts("/v1/score")
    assert client.post("/v2/rerank", json=body).status_code == 200
    assert counts("/v2/rerank") == [count + 1 for count in ranking]
    assert counts("/v1/score") == scoring


def test_every_series_is_there_before_the_first_request(bundles):
    with running(bundles) as process, httpx.Client(base_url=process.wait_ready()) as fresh:
        before = {line.rsplit(" ", 1)[0] for line in fresh.get("/metrics").text.splitlines()}
        scored(fresh, {"task": "qc", "query": "shoes", "candidates": ["Shoes", "x" * 500], "language": "xx"})
        fresh.post("/v1/score", json={"task": "qc"})
        fresh.post("/v1/score", content=b"{", headers={"content-type": "application/json"})
        after = {line.rsplit(" ", 1)[0] for line in fresh.get("/metrics").text.splitlines()}
    assert after == before


def test_scores_are_counted_by_language(client):
    def count():
        return sum(
            metric(client, f'relevance_scores_total{{label="{label}",language="{language}",task="qi"}}')
            for label in "01"
            for language in ("es", "other")
        )

    before = count()
    for language in ("es", "tlh"):
        scored(client, {"task": "qi", "query": "shoes", "candidates": ["Shoes", "Socks"], "language": language})
    assert count() == before + 4


def test_timing_header_adds_up(client):
    answer = client.post("/v1/score", json={"task": "qi", "query": "shoes", "candidates": ["Shoes", "Socks"]})
    parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(parts) == ["queue", "tokenize", "run", "serialize", "total"]
    times = {name: float(value) for name, value in parts.items()}
    assert 0 < times["run"] < times["total"]
    assert times["queue"] + times["tokenize"] + times["run"] + times["serialize"] <= times["total"] + 0.1
    assert "server-timing" not in client.get("/healthz").headers


@pytest.mark.parametrize("bad", ["0", "-5", "1.5", "soon", "", "9999999999"])
def test_timeout_that_is_not_a_number_of_milliseconds_is_refused(client, bad):
    body = {"task": "qi", "query": "shoes", "candidates": ["Shoes"]}
    answer = client.post("/v1/score", json=body, headers={"x-request-timeout-ms": bad})
    assert "expected whole milliseconds" in problem(answer, 422, "invalid_request")["detail"]


def test_recurring_texts_are_not_tokenised_again(client):
    hits = 'relevance_cache_lookups_total{cache="tokens",result="hit",task="qi"}'
    misses = 'relevance_cache_lookups_total{cache="tokens",result="miss",task="qi"}'
    body = {"task": "qi", "query": "seldom", "candidates": ["seldom seen", "seldom heard"]}
    first = scored(client, body)
    before = metric(client, hits), metric(client, misses)
    assert scored(client, body | {"query": "another"})["scores"] != first["scores"]
    assert scored(client, body)["scores"] == first["scores"]
    assert (metric(client, hits), metric(client, misses)) == (before[0] + 5, before[1] + 1)


def test_rejections_are_counted_by_reason(client):
    before = metric(client, 'relevance_rejections_total{reason="too_large"}')
    client.post("/v1/score", json={"task": "qc", "query": "a" * 2000, "candidates": ["b"]})
    assert metric(client, 'relevance_rejections_total{reason="too_large"}') == before + 1


def test_openapi_describes_both_forms_and_problems(client):
    page = client.get("/openapi.json").json()
    score = page["paths"]["/v1/score"]["post"]
    assert set(score["requestBody"]["content"]["application/json"]["examples"]) == {"candidates", "pairs"}
    for status in ("400", "404", "413", "415", "422", "429", "500", "503", "504"):
        assert list(score["responses"][status]["content"]) == ["application/problem+json"]
    assert {"ScoreRequest", "ScoreResponse", "Problem", "Fault"} <= page["components"]["schemas"].keys()
    references = set(json.dumps(page).split('"#/components/schemas/')[1:])
    assert {each.split('"')[0] for each in references} <= page["components"]["schemas"].keys()
    for example in score["requestBody"]["content"]["application/json"]["examples"].values():
        scored(client, example["value"])


def test_log_lines_are_json_without_query_text(client, process):
    answer = client.post(
        "/v1/score",
        json={"task": "qc", "query": "secretquery", "candidates": ["secretcandidate"]},
        headers={"x-request-id": "logged-1"},
    )
    assert answer.status_code == 200
    client.post(
        "/v1/score", json={"task": "qc", "query": "secretquery", "candidates": ["secretcandidate"], "secret": 1}
    )
    while not (found := [line for line in process.lines if '"logged-1"' in line]):
        assert process.child.poll() is None
        time.sleep(0.01)
    line = json.loads(found[0])
    expected = {"level": "INFO", "route": "/v1/score", "status": 200, "task": "qc", "pairs": 1}
    assert expected.items() <= line.items()
    assert line["tokens"] == answer.json()["usage"]["tokens"]
    assert line["duration_ms"] > 0
    assert all(json.loads(each) for each in process.lines)
    assert "secretquery" not in "".join(process.lines)
    assert "secretcandidate" not in "".join(process.lines)
