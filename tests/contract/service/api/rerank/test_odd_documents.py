"""Blank, long and odd documents and keys, in all shapes of other rerankers, sent to the real service."""

import json
import unicodedata

import httpx
import numpy as np
import pytest

from relevance.model.bundle import MANIFEST_FILE, Bundle
from relevance.model.card import Calibration
from relevance.tasks import Pair, Task
from service.runtime.session import Engine
from tests.serving import running
from tests.tiny import MAX_LENGTH, tiny_bundle

QUERY = "wireless earphones"
LOWEST = float(np.finfo(np.float32).min)
TRUTH = [pytest.param("true", id="text"), pytest.param("True", id="capital"), pytest.param(True, id="flag")]


def ranked(key):
    return lambda answer: {each["index"]: each[key] for each in (answer if key == "score" else answer["results"])}


def in_order(answer):
    flat = [each[0] if isinstance(each, list) else each for each in answer]
    return {place: each["score"] for place, each in enumerate(flat)}


def objects(*keys):
    return lambda query, texts: {"query": query, "documents": [dict.fromkeys(keys, text) for text in texts]}


# name: route, how a query and texts are written, how scores are read, what a text is called in errors
SHAPES = {
    "tei": ("/rerank", lambda query, texts: {"query": query, "texts": texts}, ranked("score"), "texts[{}]"),
    "elasticsearch": (
        "/rerank",
        lambda query, texts: {"query": query, "documents": texts},
        ranked("score"),
        "documents[{}]",
    ),
    "v1": (
        "/v1/rerank",
        lambda query, texts: {"query": query, "documents": texts},
        ranked("relevance_score"),
        "documents[{}]",
    ),
    "v1 objects": ("/v1/rerank", objects("text"), ranked("relevance_score"), "documents[{}]"),
    "v2": (
        "/v2/rerank",
        lambda query, texts: {"query": query, "documents": texts},
        ranked("relevance_score"),
        "documents[{}]",
    ),
    "v2 objects": ("/v2/rerank", objects("text"), ranked("relevance_score"), "documents[{}]"),
    "v2 fields": (
        "/v2/rerank",
        lambda query, texts: objects("title")(query, texts) | {"rank_fields": ["brand", "title"]},
        ranked("relevance_score"),
        "documents[{}]",
    ),
    "pairs": (
        "/predict",
        lambda query, texts: {"inputs": [[query, text] for text in texts]},
        in_order,
        "inputs[{}][1]",
    ),
    "pair objects": (
        "/predict",
        lambda query, texts: {"inputs": [{"text": query, "text_pair": text} for text in texts]},
        in_order,
        "inputs[{}].text_pair",
    ),
}
WITH_RAW = ["tei", "elasticsearch", "pairs", "pair objects"]
RERANK = ["tei", "elasticsearch", "v1", "v2"]


def calibrated(folder, calibration):
    manifest = tiny_bundle(folder, Task.QI, seed=2).model_copy(update={"calibration": calibration}).sealed()
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle with a calibration, which raw scores leave out."""
    folder = tmp_path_factory.mktemp("bundles") / "qi"
    return calibrated(folder, Calibration(scale=2.0, offset=-0.5))


@pytest.fixture(scope="module")
def engine(folder):
    return Engine(Bundle.open(folder))


@pytest.fixture(scope="module")
def client(folder):
    with running({"qi": folder}) as process, httpx.Client(base_url=process.wait_ready(), timeout=60) as client:
        yield client


@pytest.fixture
def expected(engine):
    """The logits of whole texts, each pair run alone."""

    def found(texts, query=QUERY):
        tokenized = engine.inputs.encode([Pair(query, text) for text in texts])
        return np.array([engine.logits([each])[0] for each in tokenized])

    return found


def post(client, shape, texts, query=QUERY, **more):
    route, write, _, _ = SHAPES[shape]
    body = json.dumps(write(query, texts) | more)  # lone surrogates as escapes
    return client.post(route, content=body, headers={"content-type": "application/json"})


def scores(client, shape, texts, query=QUERY, **more):
    answer = post(client, shape, texts, query, **more)
    assert answer.status_code == 200, answer.text
    found = SHAPES[shape][2](answer.json())
    return [found[place] for place in range(len(texts))], answer


def problem(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


BLANKS = {
    "empty": "",
    "spaces": "  \t\r\n ",
    "wide space": "\u3000\u00a0",
    "control": "\x00\x07\x1b",
    "zero width": "\u200b\u200d\ufeff",
    "direction marks": "\u200e\u202e\u2067",
    "commas": " , ,",
    "null": None,
}


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_blank_document_is_last_with_score_0(client, engine, expected, shape, blank):
    found, answer = scores(client, shape, ["Red cup", BLANKS[blank], "Earphones"])
    others = engine.bundle.manifest.scores(expected(["Red cup", "Earphones"]))
    assert found == pytest.approx([others[0], 0.0, others[1]], abs=1e-5)
    assert found[1] == 0.0
    assert answer.headers["x-compute-tokens"] == str(
        sum(len((QUERY + text).encode()) + 4 for text in ("Red cup", "Earphones"))
    )
    if shape in RERANK:
        assert list(SHAPES[shape][2](answer.json()))[-1] == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_only_blank_documents_keep_their_order_and_need_a_query(client, shape):
    found, answer = scores(client, shape, ["", " ", None])
    assert found == [0.0, 0.0, 0.0]
    assert answer.headers["x-compute-tokens"] == "0"
    assert list(SHAPES[shape][2](answer.json())) == [0, 1, 2]
    for query in ("", " \n", "\x00", "\u200b"):
        assert "blank, expected text" in problem(post(client, shape, ["", "cup"], query), 422)


@pytest.mark.parametrize("shape", WITH_RAW)
def test_raw_score_of_a_blank_document_is_the_lowest_float32(client, expected, shape):
    found, _ = scores(client, shape, ["Red cup", ""], raw_scores=True)
    assert found[0] == pytest.approx(expected(["Red cup"])[0], abs=1e-5)
    assert found[1] == LOWEST


def test_blank_documents_are_returned(client):
    for document in ("", None):
        body = {"query": QUERY, "documents": ["cup", document], "return_documents": True}
        for route in ("/v1/rerank", "/v2/rerank"):
            assert client.post(route, json=body).json()["results"][1]["document"] == {"text": ""}
        body = {"query": QUERY, "texts": ["cup", document], "return_text": True}
        assert client.post("/rerank", json=body).json()[1]["text"] == ""


@pytest.mark.parametrize("route", ["/v1/rerank", "/v2/rerank"])
def test_field_that_is_null_or_blank_is_a_blank_document_and_one_that_is_missing_an_error(client, route):
    body = {"query": QUERY, "documents": ["cup", {"text": None}, {"text": "", "id": "1"}]}
    results = client.post(route, json=body).json()["results"]
    assert [each["relevance_score"] for each in results][1:] == [0.0, 0.0]
    for document in ({}, {"title": "b"}, {"text": 3}, {"text": ["a"]}):
        answer = client.post(route, json={"query": QUERY, "documents": ["cup", document]})
        assert "documents[1]: expected a text, or an object with text under ['text']" in problem(answer, 422)


def test_own_routes_still_refuse_blank_and_long_candidates(client):
    body = {"task": "qi", "query": QUERY, "candidates": ["cup", "\u200b"]}
    assert "candidates[1]: blank" in problem(client.post("/v1/score", json=body), 422)
    body["candidates"] = ["x" * 4001]
    assert "4001 characters" in problem(client.post("/v1/score", json=body), 413)
    line = json.dumps({"query": QUERY, "candidate": "\x00"})
    answer = client.post("/v1/score/bulk?task=qi", content=line, headers={"content-type": "application/x-ndjson"})
    assert answer.json()["status"] == 422


LONG = {
    "words": "Red ceramic cup, 300 ml. " * 180,
    "one word": "x" * 4500,
    "white space": ("Red" + " \t\n\u3000" * 2000 + "cup ") * 40,
    "no spaces": "ワイヤレスイヤホン" * 600,
    "combining": unicodedata.normalize("NFD", " ".join(f"điện{n} thoại{n}" for n in range(800))),
    "megabyte": "xyz" * 350_000,
}


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("shape", SHAPES)
def test_long_document_is_cut_and_reported(client, engine, expected, shape, text):
    found, answer = scores(client, shape, ["Red cup", LONG[text]])
    assert found == pytest.approx(engine.bundle.manifest.scores(expected(["Red cup", LONG[text]])), abs=1e-5)
    assert answer.headers["x-truncated-pairs"] == "1"
    if "results" in answer.json():
        assert answer.json()["meta"]["warnings"] == [
            f"cut to the {MAX_LENGTH} tokens that the model reads: documents[1]"
        ]


@pytest.mark.parametrize("times", [68, 20_000])
@pytest.mark.parametrize("shape", ["tei", "v1", "v2 objects"])
def test_long_query_is_cut_and_reported(client, engine, expected, shape, times):
    query = "wireless earphones " * times
    assert len(query) > 1280
    found, answer = scores(client, shape, ["Red cup", ""], query)
    assert found == pytest.approx([*engine.bundle.manifest.scores(expected(["Red cup"], query)), 0.0], abs=1e-5)
    assert answer.headers["x-truncated-pairs"] == "1"  # a blank document is not read


@pytest.mark.parametrize("text", ["Red" + " " * 10_000 + "cup", "Running shoes " * 400])
def test_text_that_formatting_folds_is_not_long(client, engine, expected, text):
    found, answer = scores(client, "tei", [text], truncate=False)
    assert found == pytest.approx(engine.bundle.manifest.scores(expected([text])), abs=1e-5)
    assert answer.headers["x-truncated-pairs"] == "0"


@pytest.mark.parametrize("shape", WITH_RAW)
@pytest.mark.parametrize("text", ["x" * 200, "x" * 4500, "word " * 40_000])
@pytest.mark.parametrize("truncate", [False, "false"])
def test_truncate_false_names_the_long_text(client, shape, text, truncate):
    detail = problem(post(client, shape, ["Red cup", text], truncate=truncate), 413)
    assert detail.startswith(SHAPES[shape][3].format(1) + ": with its query longer than")


@pytest.mark.parametrize("shape", SHAPES)
def test_body_limit_stays(client, shape):
    assert "body: " in problem(post(client, shape, ["x" * 2**21]), 413)


ODD = {
    "emoji": "👩‍👩‍👧‍👦 cup 🏺",
    "nul": "red\x00cup",
    "direction marks": "\u202eكوب أحمر\u202c",
    "escapes": 'red "cup" \\ \u2028',
    "special tokens": "<s>red</s> cup <pad>",
    "beyond the BMP": "𠮷野家 𝒸𝓊𝓅",
    "long word": "Donaudampfschifffahrtsgesellschaft" * 30,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_documents_are_scored_as_they_are(client, engine, expected, shape):
    texts = [*ODD.values(), *ODD.values()]  # duplicates get equal scores
    found, _ = scores(client, shape, texts)
    assert found == pytest.approx(engine.bundle.manifest.scores(expected(texts)), abs=1e-5)
    assert found[: len(ODD)] == pytest.approx(found[len(ODD) :], abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_number_of_documents(client, shape):
    assert len(scores(client, shape, ["cup"])[0]) == 1
    assert "is empty; expected at least one" in problem(post(client, shape, []), 422)
    assert "1001 of them, expected at most 1000" in problem(post(client, shape, [""] * 1001), 413)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", ["\ud800", "cup \udc00", "\udfff\ud83d"])
def test_half_a_surrogate_pair_is_named(client, shape, text):
    detail = problem(post(client, shape, ["cup", text]), 422)
    assert detail.startswith(SHAPES[shape][3].format(1) + ": half of a surrogate pair")
    assert "half of a surrogate pair" in problem(post(client, shape, [""], text), 422)


@pytest.mark.parametrize("shape", RERANK)
@pytest.mark.parametrize(
    ("top_n", "count"), [(1, 1), (3, 3), (99, 3), (None, 3), ("2", 2), (2.0, 2), (10**17, 3), ("1" * 18, 3)]
)
def test_top_n(client, shape, top_n, count):
    answer = post(client, shape, ["a", "", "c"], top_n=top_n)
    assert answer.status_code == 200, answer.text
    assert len(SHAPES[shape][2](answer.json())) == count


@pytest.mark.parametrize("shape", RERANK)
@pytest.mark.parametrize("top_n", [0, -1, 1.5, True, "two", "", "-1", "٣", "9" * 5000, [1]])
def test_top_n_that_is_not_a_count_is_refused(client, shape, top_n):
    assert "top_n" in problem(post(client, shape, ["a", "b"], top_n=top_n), 422)


@pytest.mark.parametrize("value", TRUTH)
def test_flags_may_be_written_as_texts(client, value):
    for shape in ("v1", "v2"):
        assert "document" in post(client, shape, ["a"], return_documents=value).json()["results"][0]
    assert post(client, "tei", ["a"], return_text=value).json()[0]["text"] == "a"
    assert post(client, "elasticsearch", ["a"], return_documents=value).json()[0]["text"] == "a"
    assert post(client, "pairs", ["a", ""], raw_scores=value).json()[1][0]["score"] == LOWEST
    for shape in ("v1", "v2"):
        assert "document" not in post(client, shape, ["a"], return_documents="false").json()["results"][0]


@pytest.mark.parametrize("value", ["yes", "", 1, 0, [True]])
@pytest.mark.parametrize("shape", ["v1", "v2", "elasticsearch"])
def test_other_words_are_not_flags(client, shape, value):
    assert "return_documents" in problem(post(client, shape, ["a"], return_documents=value), 422)


@pytest.mark.parametrize("shape", WITH_RAW)
def test_truncation_direction(client, shape):
    for value in ("Right", "right", None):
        assert post(client, shape, ["a"], truncation_direction=value).status_code == 200
    for value in ("Left", "left", "middle", ""):
        detail = problem(post(client, shape, ["a"], truncation_direction=value), 422)
        assert (
            detail == f"truncation_direction: {value!r}, expected 'Right': texts are cut at their end, as in training"
        )


def test_cohere_keys_that_mean_nothing_here(client):
    harmless = {"max_tokens_per_doc": 4096, "max_chunks_per_doc": 10, "priority": 5, "return_documents": None}
    spans = {"mode": "disabled", "threshold": 0.1, "max_spans": None}
    for shape in ("v1", "v2"):
        assert post(client, shape, ["a"], **harmless, relevant_spans=spans).status_code == 200
    detail = problem(post(client, "v2", ["a"], relevant_spans={"mode": "enabled"}), 422)
    assert "relevant_spans.mode: Input should be 'disabled'" in detail


@pytest.mark.parametrize(
    ("key", "meant"), [("top_k", "top_n"), ("document", "documents"), ("return_document", "return_documents")]
)
def test_unknown_key_of_v2_comes_with_the_known_one(client, key, meant):
    detail = problem(post(client, "v2", ["a"], **{key: 1}), 422)
    assert f"{key}: unknown key; did you mean `{meant}`?" in detail


def test_many_unknown_keys_of_v2_are_one_error(client):
    detail = problem(post(client, "v2", ["a"], **{f"{n:x}" * 9: n for n in range(200)}), 422)
    assert detail.count("unknown key") == 1
    assert "did you mean" not in detail


@pytest.fixture(scope="module")
def saturated(tmp_path_factory):
    """A bundle whose calibrated scores are 0 or 1 to the last digit."""
    folder = tmp_path_factory.mktemp("bundles") / "qi"
    return calibrated(folder, Calibration(scale=1e6, offset=0.0))


@pytest.mark.parametrize("cached", [0, 100])
def test_raw_scores_are_the_models_own_logits_where_scores_are_0_or_1(saturated, expected, cached):
    texts = [letter * 60 for letter in "abcdefghijklm"]
    logits = expected(texts)
    assert {*np.sign(logits)} == {-1, 1}
    with running({"qi": saturated}, score_cache_pairs=cached) as process:
        url = process.wait_ready()
        for _ in range(2):  # the second time from the cache, where there is one
            with httpx.Client(base_url=url, timeout=60) as client:
                plain, _ = scores(client, "tei", texts)
                assert min(plain) < 1e-300
                assert max(plain) == 1
                for shape in WITH_RAW:
                    assert scores(client, shape, texts, raw_scores=True)[0] == pytest.approx(logits, abs=1e-5)
                answer = post(client, "v2", texts).json()["results"]
                assert [each["index"] for each in answer] == np.argsort(-logits, kind="stable").tolist()
