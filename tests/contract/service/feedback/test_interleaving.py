"""Interleaved answers of a real service: two models take turns, and the log says whose pick each candidate is."""

import asyncio
import json
from contextlib import contextmanager

import httpx
import pytest
from pydantic import TypeAdapter

from relevance.feedback import LogLine, Team, sampled
from relevance.model.bundle import Bundle
from relevance.tasks import Task
from service.errors import ScoringError
from service.lifecycle.challenger import Mode
from tests.serving import in_process, running
from tests.tiny import tiny_bundle

QUERY, CANDIDATES = "shoes", [f"Sports,Running Shoes {number}" for number in range(12)]
BODIES = {
    "/v2/rerank": {"query": QUERY, "documents": CANDIDATES},
    "/v1/rerank": {"query": QUERY, "documents": CANDIDATES},
    "/rerank": {"query": QUERY, "texts": CANDIDATES},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    for seed, name in enumerate("ab"):
        tiny_bundle(folder / name, seed=seed)
    return folder


@contextmanager
def served(root, mode="canary", **settings):
    """A service of bundle a with b as challenger; yields its client and its process."""
    with running({"qc": root / "a"}, admin_port=0, **settings) as process:
        url = process.wait_ready()
        admin = next(json.loads(line)["url"] for line in process.lines if "admin interface at" in line)
        if mode:
            body = {"bundle": "b", "mode": mode, "share": 0}
            httpx.post(f"{admin}/v1/admin/models/qc", json=body, timeout=60).raise_for_status()
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client, process


def lines_of(folder):
    data = b"".join(file.read_bytes() for file in sorted(folder.glob("feedback-*.jsonl")))
    return [TypeAdapter(LogLine).validate_json(line) for line in data.splitlines()]


def order_of(answer):
    content = answer.raise_for_status().json()
    return [each["index"] for each in (content["results"] if isinstance(content, dict) else content)]


def asked(client, path="/v2/rerank", request_id="1", **more):
    return client.post(path, json=BODIES[path] | more, headers={"x-request-id": request_id})


def test_every_shape_interleaves_and_logs_whose_pick_each_candidate_is(root, tmp_path):
    plain, answers = {}, {}
    with served(root, feedback_folder=tmp_path, feedback_text="all") as (client, process):
        for model in ("active", "challenger"):
            found = client.post("/v2/rerank", json=BODIES["/v2/rerank"], headers={"x-relevance-model": model})
            plain[model] = order_of(found)
        for path in BODIES:
            answers[path] = asked(client, path, f"of{path}", interleave=True)
        process.child.terminate()
        process.end()
    assert plain["active"] != plain["challenger"]
    lines = {line.request_id: line for line in lines_of(tmp_path) if line.challenger}
    for path, answer in answers.items():
        assert answer.headers["x-interleaved"] == "true"
        line = lines[f"of{path}"]
        assert line.version == answer.headers["x-model-version"] == Bundle.open(root / "a").manifest.version
        assert line.challenger == Bundle.open(root / "b").manifest.version
        shown = sorted(line.candidates, key=lambda each: each.position)
        assert [each.index for each in shown] == order_of(answer)
        for place, each in enumerate(shown):
            own = plain["active" if each.team is Team.ACTIVE else "challenger"]
            assert each.index == next(p for p in own if p not in [other.index for other in shown[:place]])
    scores = {each["index"]: each["relevance_score"] for each in answers["/v2/rerank"].json()["results"]}
    assert [scores[index] for index in plain["active"]] == sorted(scores.values(), reverse=True)


def test_a_repeated_request_gets_the_same_list_and_top_n_cuts_it(root, tmp_path):
    with served(root, feedback_folder=tmp_path) as (client, _):
        first, again = (order_of(asked(client, interleave=True)) for _ in range(2))
        assert first == again
        assert order_of(asked(client, interleave=True, top_n=3)) == first[:3]
        others = [order_of(asked(client, request_id=str(number), interleave=True)) for number in range(2, 12)]
    assert any(each != first for each in others)


@pytest.mark.parametrize("mode", [None, "shadow"])
def test_without_a_challenger_that_answers_the_active_model_ranks(root, tmp_path, mode):
    with served(root, mode, feedback_folder=tmp_path) as (client, _):
        answer = asked(client, interleave=True)
        assert answer.headers["x-interleaved"] == "no_challenger"
        assert order_of(answer) == order_of(plain := asked(client))
        assert "x-interleaved" not in plain.headers


def test_what_is_not_logged_is_not_interleaved(root, tmp_path):
    with served(root) as (client, _):
        assert asked(client, interleave=True).headers["x-interleaved"] == "no_log"
    with served(root, feedback_folder=tmp_path, feedback_share=0.5) as (client, _):
        for number in map(str, range(20)):
            found = asked(client, request_id=number, interleave=True).headers["x-interleaved"]
            assert found == ("true" if sampled(number, 0.5) else "not_sampled")


def test_a_challenger_that_fails_fails_no_request(root, tmp_path):
    async def fail(*_, **__):
        raise ScoringError("broken")

    async def scenario(client, service):
        await service.rollouts[Task.QC].try_out(root / "b", Mode.CANARY, 0.0)
        service.rollouts[Task.QC].canary.score = fail
        headers = {"x-request-id": "1"}
        answer = await client.post("/v2/rerank", json=BODIES["/v2/rerank"] | {"interleave": True}, headers=headers)
        plain = await client.post("/v2/rerank", json=BODIES["/v2/rerank"], headers=headers)
        return answer, plain

    answer, plain = in_process({Task.QC: root / "a"}, scenario, feedback_folder=tmp_path)
    assert answer.headers["x-interleaved"] == "challenger_failed"
    assert order_of(answer) == order_of(plain)
    assert [line.challenger for line in lines_of(tmp_path)] == [None, None]


def test_an_active_model_that_fails_ends_the_challengers_work(root, tmp_path):
    ended = asyncio.Event()

    async def fail(*_, **__):
        await asyncio.sleep(0)
        raise ScoringError("broken")

    async def hang(*_, **__):
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    async def scenario(client, service):
        rollout = service.rollouts[Task.QC]
        await rollout.try_out(root / "b", Mode.CANARY, 0.0)
        rollout.active.score, rollout.canary.score = fail, hang
        answer = await client.post("/v2/rerank", json=BODIES["/v2/rerank"] | {"interleave": True})
        await asyncio.wait_for(ended.wait(), 10)
        return answer

    assert in_process({Task.QC: root / "a"}, scenario, feedback_folder=tmp_path).status_code == 500


def test_a_header_that_names_one_model_contradicts(root, tmp_path):
    with served(root, feedback_folder=tmp_path) as (client, _):
        headers = {"x-relevance-model": "active"}
        answer = client.post("/v2/rerank", json=BODIES["/v2/rerank"] | {"interleave": True}, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (422, "invalid_request")
        assert "X-Relevance-Model names one model" in answer.json()["detail"]
        assert asked(client, interleave="perhaps").status_code == 422
