"""The recipes of docs/engines.md: its requests, filled as the engines fill them, sent to a real service."""

import json
import math
import re
from urllib.parse import urlsplit

import httpx
import pytest

from relevance.client import Client
from tests import ROOT
from tests.serving import running

BLOCKS = dict(re.findall(r"^```\w+ ([a-z-]+)\n(.*?)^```", (ROOT / "docs/engines.md").read_text("utf-8"), re.M | re.S))
QUERY = 'red "cup" 5 in\\ 靴'
TITLES = ["Red ceramic cup", "Running shoes 42", '24" cup\tset', "靴 メンズ", "Blue cup"]


@pytest.fixture(scope="module")
def url(bundles):
    with running({"qi": bundles["qi"]}) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def scores(url):
    """The scores of the titles, by language."""
    with Client(url) as client:
        return {language: client.score("qi", QUERY, TITLES, language).scores for language in (None, "ja")}


def recipe(name):
    return json.loads(BLOCKS[name])


def sent(url, address, body):
    """Send a body to a recipe's address, of which the test's service has another host."""
    answer = httpx.post(url + urlsplit(address).path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(answer, path):
    """Read a JSON path of the form that Elasticsearch takes: `$.a[*].b`."""
    found = [answer]
    for part in path.removeprefix("$.").split("."):
        found = [each[part.removesuffix("[*]")] for each in found]
        found = [each for several in found for each in several] if part.endswith("[*]") else found
    return found


def elasticsearch(url, name, query, texts):
    """What Elasticsearch makes of an endpoint: (index, score) of each document, in the order of the answer."""
    endpoint = recipe(name)
    settings, tasks = endpoint["service_settings"], endpoint.get("task_settings", {}).get("parameters", {})
    known = {**tasks, "query": query, "input": texts}  # each is put in as JSON
    body = re.sub(r"\$\{(\w+)\}", lambda found: json.dumps(known[found[1]]), settings["request"])
    parser = settings["response"]["json_parser"]
    answer = sent(url, settings["url"], body.encode())
    found = values(answer, parser["relevance_score"])
    places = values(answer, parser["reranked_index"]) if "reranked_index" in parser else range(len(found))
    return dict(zip(places, found, strict=True))


def shown_by_elasticsearch(score):
    """The score that `text_similarity_reranker` shows."""
    return max(score, 0) + min(math.exp(score), 1)


def test_elasticsearch_gets_a_score_for_each_document(url, scores):
    found = elasticsearch(url, "elasticsearch-endpoint", QUERY, TITLES)
    assert [found[place] for place in range(len(TITLES))] == pytest.approx(scores[None], abs=1e-5)


def test_elasticsearch_can_send_a_language_to_the_native_route(url, scores):
    found = elasticsearch(url, "elasticsearch-language", QUERY, TITLES)
    assert [found[place] for place in range(len(TITLES))] == pytest.approx(scores["ja"], abs=1e-5)


def test_threshold_in_elasticsearch_is_higher_by_one(url, scores):
    search = recipe("elasticsearch-search")["retriever"]["text_similarity_reranker"]
    kept = [place for place, score in enumerate(scores[None]) if shown_by_elasticsearch(score) >= search["min_score"]]
    assert kept == [place for place, score in enumerate(scores[None]) if score >= 0.5]
    assert shown_by_elasticsearch(0.5) == search["min_score"] == 1.5
    assert shown_by_elasticsearch(0) == 1
    assert search["rank_window_size"] <= 1000  # the service's `max_candidates`


def test_rows_of_an_esql_rerank_fit_into_one_request(url):
    found = elasticsearch(url, "elasticsearch-endpoint", "cup", [f"cup {n}" for n in range(1000)])
    assert sorted(found) == list(range(1000))


def test_blank_title_fails_the_native_route_only(url):
    assert len(elasticsearch(url, "elasticsearch-endpoint", "cup", ["cup", ""])) == 2
    with pytest.raises(AssertionError, match="blank"):
        elasticsearch(url, "elasticsearch-language", "cup", ["cup", ""])


def test_opensearch_gets_a_score_for_each_document(url, scores):
    connector = recipe("opensearch-connector")
    action = connector["actions"][0]
    known = {"documents": json.dumps(TITLES), "query": json.dumps(QUERY)[1:-1], "top_n": str(len(TITLES))}
    known |= connector["parameters"]
    body = re.sub(r"\$\{parameters\.(\w+)\}", lambda found: known[found[1]], action["request_body"])
    results = sent(url, action["url"], body.encode())["results"]
    by_index = [each["relevance_score"] for each in sorted(results, key=lambda each: each["index"])]
    assert by_index == pytest.approx(scores[None], abs=1e-5)
    assert action["post_process_function"] == "connector.post_process.cohere.rerank"


def test_opensearch_pipeline_keeps_the_order_on_failure_and_reads_the_query():
    (processor,) = recipe("opensearch-pipeline")["response_processors"]
    search = recipe("opensearch-search")
    text = search
    for part in search["ext"]["rerank"]["query_context"]["query_text_path"].split("."):
        text = text[part]
    assert text == "red cup"
    assert processor["rerank"]["ignore_failure"] is True
    assert processor["rerank"]["context"]["document_fields"] == ["title"]


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        ("vespa", {"root": {"children": [{"id": f"id:{n}", "fields": {"title": t}} for n, t in enumerate(TITLES)]}}),
        ("vespa", {"root": {"id": "toplevel"}}),
        ("solr", {"response": {"docs": [{"id": str(n), "title": title} for n, title in enumerate(TITLES)]}}),
    ],
)
def test_hits_are_ordered_in_the_application(url, scores, engine, answer):
    names = {}
    exec(BLOCKS[engine], names)
    hits = answer["response"]["docs"] if engine == "solr" else answer["root"].get("children", [])
    with Client(url) as client:
        found, result = names["reranked"](client, QUERY, "ja", answer, budget_ms=20_000)
    best = sorted(range(len(hits)), key=lambda place: -scores["ja"][place])
    assert found == [hits[place] for place in best]
    assert result.reranked is bool(hits)
    with Client("http://127.0.0.1:9") as away:
        found, result = names["reranked"](away, QUERY, "ja", answer, budget_ms=20_000)
    assert (found, result.reranked) == (hits, False)
    assert result.reason in ("unreachable", "no_candidates")
