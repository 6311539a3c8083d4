"""Scoring by the Open Inference Protocol (KServe v2), JSON and binary, against the real service."""

import json
import struct

import httpx
import numpy as np
import pytest

from tests.serving import running

QUERY, CANDIDATES = "椅子", ["Kitchen,Cups", "Furniture,Chairs", "Shoes"]
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(bundles):
    with running(bundles, max_candidates=50) as process, httpx.Client(base_url=process.wait_ready()) as client:
        yield client


def tensor(name, texts, **changes):
    return {"name": name, "shape": [len(texts or ())], "datatype": "BYTES", "data": texts} | changes


def request(*inputs, **more):
    return {"inputs": list(inputs)} | more


def packed(texts):
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def post_binary(client, body, content, path="/v2/models/qi/infer", **headers):
    head = json.dumps(body).encode()
    return client.post(path, content=head + content, headers={HEADER: str(len(head))} | headers)


def expected(client, candidates=CANDIDATES, task="qi", **more):
    answer = client.post("/v1/score", json={"task": task, "query": QUERY, "candidates": candidates} | more).json()
    return [each["score"] for each in answer["scores"]], [each["label"] for each in answer["scores"]]


@pytest.mark.parametrize("name", ["qi", "tiny-qi-2", "qi/versions/VERSION"])
def test_scores_and_labels_are_those_of_v1_score(client, versions, name):
    path = f"/v2/models/{name.replace('VERSION', versions['qi'])}/infer"
    body = request(tensor("query", [QUERY]), tensor("candidate", CANDIDATES), tensor("language", ["ja"]), id="mine")
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    scores, labels = expected(client, language="ja")
    score, label = found.pop("outputs")
    assert found == {"model_name": "tiny-qi-2", "model_version": versions["qi"], "id": "mine"}
    assert score == {"name": "score", "datatype": "FP64", "shape": [3], "data": pytest.approx(scores, abs=1e-5)}
    assert label == {"name": "label", "datatype": "INT64", "shape": [3], "data": labels}


def test_a_query_for_each_candidate_nested_lists_and_one_output(client):
    body = request(
        tensor("query", [[QUERY], [QUERY]], shape=[2, 1]),
        tensor("candidate", [CANDIDATES[:2]], shape=[1, 2]),
        outputs=[{"name": "score"}],
    )
    (found,) = client.post("/v2/models/qi/infer", json=body).json()["outputs"]
    assert found["data"] == pytest.approx(expected(client, CANDIDATES[:2])[0], abs=1e-5)


def test_binary_tensors_in_and_out_without_a_content_type(client):
    inputs = [
        tensor(name, None, shape=[len(texts)], parameters={"binary_data_size": len(packed(texts))})
        for name, texts in (("query", [QUERY]), ("candidate", CANDIDATES))
    ]
    content = packed([QUERY]) + packed(CANDIDATES)
    answer = post_binary(client, request(*inputs, parameters={"binary_data_output": True}), content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    end = int(answer.headers[HEADER])
    score, label = json.loads(answer.content[:end])["outputs"]
    sizes = [each["parameters"]["binary_data_size"] for each in (score, label)]
    assert sizes == [24, 24]
    scores, labels = expected(client)
    np.testing.assert_allclose(np.frombuffer(answer.content[end : end + 24], "<f8"), scores, atol=1e-5)
    np.testing.assert_array_equal(np.frombuffer(answer.content[end + 24 :], "<i8"), labels)
    plain = post_binary(client, request(*inputs), content).json()["outputs"][0]
    assert plain["data"] == pytest.approx(scores, abs=1e-5)


WHOLE = (tensor("query", [QUERY]), tensor("candidate", CANDIDATES))
SIZED = {"parameters": {"binary_data_size": 6}, "data": None}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (request(WHOLE[0]), "expected query and candidate, once each"),
        (request(*WHOLE, WHOLE[0]), "expected query and candidate, once each"),
        (request(WHOLE[0], tensor("title", CANDIDATES)), "inputs.1.name"),
        (request(WHOLE[0], tensor("candidate", [1.5], datatype="FP32")), "inputs.1.datatype"),
        (request(WHOLE[0], tensor("candidate", ["a", 2])), "input 'candidate': element 1 is no text"),
        (request(WHOLE[0], tensor("candidate", CANDIDATES, shape=[4])), "3 elements, expected [4] (`shape`)"),
        (request(WHOLE[0], tensor("candidate", [], shape=[-1, 0])), "inputs.1.shape.0"),
        (request(WHOLE[0], tensor("candidate", CANDIDATES, shape=[2**31, 0])), "inputs.1.shape.0"),
        (request(WHOLE[0], tensor("candidate", CANDIDATES, shape=[3] + [1] * 16)), "inputs.1.shape"),
        (request(tensor("query", ["a", "b"]), WHOLE[1]), "input 'query': 2 elements, expected 1, or 3 as of candidate"),
        (request(WHOLE[0], tensor("candidate", ["cup", " "])), "candidate[1]: blank, expected text"),
        (request(WHOLE[0], tensor("candidate", CANDIDATES, **SIZED)), "0 bytes behind the JSON, expected 6"),
        (request(WHOLE[0], tensor("candidate", [], parameters={"binary_data_size": 2**31})), "binary_data_size"),
        (request(WHOLE[0], tensor("candidate", [])), "`candidate` is empty"),
        (request(*WHOLE, outputs=[{"name": "logit"}]), "outputs.0.name"),
    ],
)
def test_what_is_not_valid_is_named_with_the_key_that_clients_read(client, body, detail):
    answer = client.post("/v2/models/qi/infer", json=body)
    assert answer.status_code == 422, answer.text
    assert detail in answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"\x02\x00\x00", "its bytes end within the length of element 0"),
        (b"\x09\x00\x00\x00ab", "element 0 has 9 bytes, expected what is left"),
        (b"\x02\x00\x00\x00\xff\xfe", "element 0 is no UTF-8 text"),
    ],
)
def test_damaged_bytes_are_named(client, content, detail):
    size = {"binary_data_size": len(content)}
    body = request(WHOLE[0], {"name": "candidate", "shape": [1], "datatype": "BYTES", "parameters": size})
    answer = post_binary(client, body, content)
    assert answer.status_code == 422
    assert detail in answer.json()["error"]


def test_sizes_whose_sum_is_too_long_to_be_written_are_refused(client):
    parts = [{"name": name, "shape": [1], "datatype": "BYTES"} for name in ("query", "candidate", "language")]
    body = request(*[part | {"parameters": {"binary_data_size": 7}} for part in parts])
    answer = client.post("/v2/models/qi/infer", json=json.loads(json.dumps(body).replace(": 7}", f": {'9' * 4300}}}")))
    assert answer.status_code == 422
    assert "binary_data_size" in answer.json()["error"]


@pytest.mark.parametrize("length", ["999999", "-1", "x", "9" * 5000])
def test_header_length_that_does_not_fit_is_refused(client, length):
    answer = client.post("/v2/models/qi/infer", json=request(*WHOLE), headers={HEADER: length})
    assert answer.status_code == 422
    assert f"{HEADER} '{length[:100]}': expected a number, at most the" in answer.json()["error"]


def test_other_types_models_and_sizes_have_their_own_status(client):
    path, body = "/v2/models/qi/infer", json.dumps(request(*WHOLE))
    assert client.post(path, content=body, headers={"content-type": "text/csv"}).status_code == 415
    assert client.post(path, content=b"{").status_code == 400
    assert client.post(path, content=b"").status_code == 400
    unknown = client.post("/v2/models/nothing/infer", json=request(*WHOLE))
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "unknown_task")
    assert "expected 'tiny-qc-1'" in unknown.json()["error"]
    many = client.post(path, json=request(WHOLE[0], tensor("candidate", ["cup"] * 51)))
    assert (many.status_code, many.json()["reason"]) == (413, "too_large")
    empty = {"name": "candidate", "shape": [51], "datatype": "BYTES", "parameters": {"binary_data_size": 204}}
    binary = post_binary(client, request(WHOLE[0], empty), b"\0\0\0\0" * 51)
    assert (binary.status_code, binary.json()["reason"]) == (413, "too_large")
    assert "input 'candidate': over 50 elements" in binary.json()["error"]
    deep = client.post(path, content=b"[" * 100_000, headers={"content-type": "application/octet-stream"})
    assert (deep.status_code, deep.json()["reason"]) == (400, "malformed_json")


def test_a_shape_of_endless_numbers_is_refused_at_once(client):
    """The product of 250 of them, as many as a body may have, held the event loop for seconds."""
    shape = "[" + ",".join(["9" * 4000] * 10) + "]"
    body = json.dumps(request(WHOLE[0], tensor("candidate", CANDIDATES, shape="SHAPE"))).replace('"SHAPE"', shape)
    answer = client.post("/v2/models/qi/infer", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 1000


def test_requests_are_counted_under_the_path_of_the_route(client):
    client.post("/v2/models/qi/infer", json=request(*WHOLE))
    lines = [line for line in client.get("/metrics").text.splitlines() if 'route="/v2/models/{name}/infer"' in line]
    counted = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("relevance_requests_total")]
    assert max(counted) >= 1
