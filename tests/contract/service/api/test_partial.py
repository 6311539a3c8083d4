"""`partial`: what can be scored by the deadline is answered, what cannot is named; against a real process."""

import time

import httpx
import pytest

from relevance.tasks import Task
from tests.serving import running
from tests.tiny import tiny_bundle

TITLES = [f"Red ceramic cup number {n} " + "x" * (n % 30) for n in range(300)]
CACHED = 40


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service whose model needs seconds for all titles."""
    folder = tmp_path_factory.mktemp("bundles") / "qi"
    tiny_bundle(folder, Task.QI, hidden=128, depth=30)
    with (
        running({"qi": folder}, score_cache_pairs=1000) as process,
        httpx.Client(base_url=process.wait_ready(), timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def whole(client):
    """The scores of all titles for the query `cup`, and the milliseconds that they took."""
    began = time.monotonic()
    scores = client.post("/v1/score", json={"task": "qi", "query": "cup", "candidates": TITLES}).json()["scores"]
    return scores, 1000 * (time.monotonic() - began)


def within(client, path, body, milliseconds):
    return client.post(path, json=body, headers={"X-Request-Timeout-Ms": str(int(milliseconds))})


def counted(client):
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("relevance_unscored_pairs_total{")).rsplit(" ")[-1])


def test_first_candidates_are_scored_and_the_others_named(client, whole):
    _, milliseconds = whole
    before = counted(client)
    body = {"task": "qi", "query": "red cup", "candidates": TITLES}
    assert within(client, "/v1/score", body, milliseconds / 3).status_code == 504
    answer = within(client, "/v1/score", body | {"partial": True}, milliseconds / 3).json()
    unscored = answer["unscored"]
    assert 0 < len(unscored) < len(TITLES)
    assert unscored == list(range(len(TITLES) - len(unscored), len(TITLES)))
    assert [place for place, score in enumerate(answer["scores"]) if score is None] == unscored
    assert answer["usage"]["pairs"] == len(TITLES) - len(unscored)
    assert counted(client) == before + len(unscored)


def test_scores_of_a_partial_answer_are_those_of_a_whole_one(client, whole):
    scores, _ = whole
    fresh = {"task": "qi", "query": "cup", "candidates": [*TITLES, "another cup"], "partial": True}
    answer = within(client, "/v1/score", fresh, 5000).json()  # all but the last are in the score cache
    assert answer["scores"][:-1] == scores
    assert answer["unscored"] in ([], [len(TITLES)])


def test_time_enough_leaves_nothing_out(client, whole):
    body = {"task": "qi", "query": "cup", "candidates": TITLES[:CACHED], "partial": True}
    assert client.post("/v1/score", json=body).json()["unscored"] == []
    assert "unscored" not in client.post("/v1/score", json=body | {"partial": False}).json()


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank"])
def test_ranking_holds_what_was_scored_best_first(client, whole, path):
    documents = [None, *TITLES]  # a blank document is ranked without a model run
    body = {"query": f"cup of {path}", "documents": documents, "partial": True}
    answer = within(client, path, body, whole[1] / 3)
    found, unscored = answer.json(), answer.json()["meta"]["unscored"]
    places = [result["index"] for result in found["results"]]
    assert sorted([*places, *unscored]) == list(range(len(documents)))
    assert 0 in places
    assert 0 < len(unscored) < len(TITLES)
    values = [result["relevance_score"] for result in found["results"]]
    assert values == sorted(values, reverse=True)
    assert answer.headers["X-Unscored-Pairs"] == str(len(unscored))
    assert found["meta"]["warnings"][0].startswith("not scored before the deadline: documents[")
    assert found["meta"]["warnings"][0].endswith(f"and {len(unscored) - 10} more")


def test_ranking_of_tei_holds_what_was_scored(client, whole):
    body = {"query": "cup of tei", "texts": TITLES, "partial": "true"}
    answer = within(client, "/rerank", body, whole[1] / 3)
    assert 0 < len(answer.json()) < len(TITLES)
    assert answer.headers["X-Unscored-Pairs"] == str(len(TITLES) - len(answer.json()))


def test_whole_ranking_says_that_nothing_is_missing(client):
    answer = client.post("/v2/rerank", json={"query": "cup", "documents": ["a", "b"], "partial": True})
    assert answer.json()["meta"]["unscored"] == []
    assert answer.headers["X-Unscored-Pairs"] == "0"


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_flag_that_is_none_is_refused(client, wrong):
    answer = client.post("/v1/score", json={"task": "qi", "query": "a", "candidates": ["b"], "partial": wrong})
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid_request")
    assert "partial: Input should be a valid boolean" in answer.json()["detail"]


def test_no_time_at_all_is_a_deadline(client):
    body = {"task": "qi", "query": "no time", "candidates": TITLES, "partial": True}
    assert within(client, "/v1/score", body, 1).json()["reason"] == "deadline"
