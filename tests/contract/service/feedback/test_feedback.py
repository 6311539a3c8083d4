"""The feedback log of a real service: what requests and `POST /v1/feedback` leave in its folder."""

import json
import signal
import sys

import httpx
import pytest
from pydantic import TypeAdapter

from relevance.feedback import LogLine, hash_of, read_key, sampled
from relevance.tasks import Task
from tests.serving import in_process, running

QUERY = "red shoes"
CANDIDATES = ["Sports,Running Shoes", "Home & Garden,Kitchen", "Shoes"]
SCORE = {"task": "qc", "query": QUERY, "candidates": CANDIDATES, "language": "en"}
CLICK = {"request_id": "search-1", "events": [{"type": "click", "index": 1}]}


def lines_of(folder):
    data = b"".join(file.read_bytes() for file in sorted(folder.glob("feedback-*.jsonl")))
    return [TypeAdapter(LogLine).validate_json(line) for line in data.splitlines()]


def served(bundle, scenario, **settings):
    """Run a scenario against the app in this process; the log is closed when this returns."""

    async def run(client, service):
        return await scenario(client)

    return in_process({Task.QC: bundle}, run, **settings)


def answered(bundle, path, body, **settings):
    async def post(client):
        return await client.post(path, json=body, headers={"x-request-id": "search-1"})

    return served(bundle, post, **settings)


@pytest.fixture(scope="module")
def log(bundle, tmp_path_factory):
    """The folder of a real process after a few requests, and their answers by path."""
    folder = tmp_path_factory.mktemp("log")
    bodies = {
        "/v1/score": SCORE,
        "/v2/rerank": {"query": QUERY, "documents": CANDIDATES, "top_n": 2},
        "/v1/rerank": {"query": QUERY, "documents": CANDIDATES},
        "/rerank": {"query": QUERY, "texts": CANDIDATES},
        "/predict": {"inputs": [[QUERY, each] for each in CANDIDATES]},
        "/v1/feedback": CLICK,
    }
    answers = {}
    with running({"qc": bundle}, feedback_folder=folder, feedback_text="all") as process:
        with httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
            for path, body in bodies.items():
                answers[path] = client.post(path, json=body, headers={"x-request-id": f"of{path}"})
            answers["/metrics"] = client.get("/metrics")
        assert not list(folder.glob("feedback-*.jsonl")), "a file that is still written must not be seen"
        assert process.end(signal.SIGTERM) == 0
    return folder, answers


def test_every_shape_is_logged_with_its_scores_and_order(log):
    folder, answers = log
    lines = {line.request_id.removeprefix("of"): line for line in lines_of(folder) if line.kind == "scores"}
    assert set(lines) == {"/v1/score", "/v2/rerank", "/v1/rerank", "/rerank", "/predict"}
    for line in lines.values():
        assert (line.query, [each.text for each in line.candidates]) == (QUERY, CANDIDATES)
        assert line.query_hash == hash_of(QUERY, read_key(folder))
    native = answers["/v1/score"].json()
    assert [(each.score, each.label) for each in lines["/v1/score"].candidates] == [
        (each["score"], each["label"]) for each in native["scores"]
    ]
    assert lines["/v1/score"].version == native["model"]["version"]
    assert lines["/v1/score"].language == "en"
    ranks = answers["/v2/rerank"].json()["results"]
    positions = {each.index: each.position for each in lines["/v2/rerank"].candidates if each.position is not None}
    assert positions == {rank["index"]: place for place, rank in enumerate(ranks)}
    assert [lines[path].ranked for path in lines] == [path.endswith("rerank") for path in lines]


def test_events_are_logged_under_the_request_that_they_are_of(log):
    folder, answers = log
    assert (answers["/v1/feedback"].status_code, answers["/v1/feedback"].json()) == (
        202,
        {"logged": 1, "sampled": True},
    )
    (event,) = [line for line in lines_of(folder) if line.kind == "feedback"]
    assert (event.request_id, event.type, event.index) == ("search-1", "click", 1)


def test_the_metrics_name_the_route_and_both_kinds(log):
    page = log[1]["/metrics"].text
    assert 'relevance_requests_total{route="/v1/feedback",status="202"} 1.0' in page
    for kind in ("scores", "feedback"):
        assert f'relevance_feedback_lines_total{{kind="{kind}"}}' in page
        assert f'relevance_feedback_dropped_total{{kind="{kind}",why="queue_full"}} 0.0' in page


def test_a_killed_service_loses_no_whole_line(bundle, tmp_path):
    with running({"qc": bundle}, feedback_folder=tmp_path) as process:
        url = process.wait_ready()
        httpx.post(url + "/v1/score", json=SCORE)
        for _ in range(300):
            if any(file.stat().st_size for file in tmp_path.glob(".feedback-*")):
                break
            httpx.get(url + "/healthz")
        process.end(signal.SIGKILL)
    assert not list(tmp_path.glob("feedback-*.jsonl"))
    answered(bundle, "/v1/feedback", CLICK, feedback_folder=tmp_path)
    assert sorted(line.kind for line in lines_of(tmp_path)) == ["feedback", "scores"]


def test_by_default_no_text_is_on_the_disk(bundle, tmp_path):
    body = {"query": "zQ7query", "documents": ["zQ7candidate", {"text": "zQ7object"}]}
    answered(bundle, "/v2/rerank", body, feedback_folder=tmp_path)
    assert len(lines_of(tmp_path)) == 1
    assert not [file for file in tmp_path.rglob("*") if b"zQ7" in file.read_bytes()]


def test_only_the_sampled_share_is_logged_and_said(bundle, tmp_path):
    ids = [f"id-{number}" for number in range(40)]

    async def scenario(client):
        found = []
        for each in ids:
            await client.post("/v1/score", json=SCORE, headers={"x-request-id": each})
            found.append((await client.post("/v1/feedback", json=CLICK | {"request_id": each})).json()["sampled"])
        return found

    said = served(bundle, scenario, feedback_folder=tmp_path, feedback_share=0.5)
    kept = [each for each in ids if sampled(each, 0.5)]
    assert [each for each, is_said in zip(ids, said, strict=True) if is_said] == kept
    assert [line.request_id for line in lines_of(tmp_path)] == [each for each in kept for _ in range(2)]


def test_a_wrong_folder_ends_the_start_with_one_line(bundle, tmp_path):
    (tmp_path / "file").touch()
    with running({"qc": bundle}, feedback_folder=tmp_path / "file" / "log") as process:
        assert process.end() == 2
    assert [line for line in process.lines if "feedback_folder" in line and "expected a folder to write into" in line]


def test_without_a_folder_feedback_is_off(bundle):
    answer = answered(bundle, "/v1/feedback", CLICK)
    assert (answer.status_code, answer.json()["reason"]) == (403, "feedback_off")
    assert "feedback_folder is not set" in answer.json()["detail"]


WRONG = {
    "no id": ({"events": CLICK["events"]}, 422, "request_id"),
    "id with a space": (CLICK | {"request_id": "a b"}, 422, "request_id"),
    "no events": (CLICK | {"events": []}, 422, "events"),
    "unknown type": (CLICK | {"events": [{"type": "like", "index": 0}]}, 422, "'click'"),
    "no candidate": (CLICK | {"events": [{"type": "click"}]}, 422, "either `index` or `candidate`"),
    "two candidates": (CLICK | {"events": [{"type": "click", "index": 0, "candidate": "a"}]}, 422, "either `index`"),
    "negative index": (CLICK | {"events": [{"type": "click", "index": -1}]}, 422, "index"),
    "true as index": (CLICK | {"events": [{"type": "click", "index": True}]}, 422, "index"),
    "judgement without a grade": (CLICK | {"events": [{"type": "judgement", "index": 0}]}, 422, "`grade`"),
    "click with a grade": (CLICK | {"events": [{"type": "click", "index": 0, "grade": 1}]}, 422, "`grade`"),
    "true as grade": (CLICK | {"events": [{"type": "judgement", "index": 0, "grade": True}]}, 422, "grade"),
    "unknown key": (CLICK | {"user": "me"}, 422, "unknown key"),
    "too many events": (CLICK | {"events": CLICK["events"] * 1001}, 413, "expected at most 1000"),
    "long candidate": (CLICK | {"events": [{"type": "click", "candidate": "a" * 4001}]}, 413, "at most 4000"),
    "long query": (CLICK | {"query": "a" * 1001}, 413, "at most 1000"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_feedback_is_refused_with_its_place(bundle, tmp_path, name):
    body, status, said = WRONG[name]
    answer = answered(bundle, "/v1/feedback", body, feedback_folder=tmp_path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert said in answer.json()["detail"]
    assert lines_of(tmp_path)[1:] == []


def test_a_full_queue_refuses_feedback_but_never_scores(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("service.feedback.feedback_log.MAX_QUEUED_CHARACTERS", 0)

    async def scenario(client):
        return [await client.post("/v1/score", json=SCORE), await client.post("/v1/feedback", json=CLICK)]

    scored, refused = served(bundle, scenario, feedback_folder=tmp_path)
    assert scored.status_code == 200
    assert (refused.status_code, refused.json()["reason"], refused.headers["retry-after"]) == (429, "overloaded", "1")
    assert lines_of(tmp_path) == []


def test_a_disk_that_is_full_fails_no_request(bundle, tmp_path):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\nfrom relevance.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "serve"]
    with running({"qc": bundle}, command=command, feedback_folder=tmp_path) as process:
        with httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
            assert [client.post("/v1/score", json=SCORE).status_code for _ in range(3)] == [200] * 3
        assert process.end(signal.SIGTERM) == 0
    said = [json.loads(line)["event"] for line in process.lines if "feedback log" in line]
    assert said == [f"feedback log: {tmp_path} cannot be written: File too large; entries are dropped"]
    assert lines_of(tmp_path) == []
