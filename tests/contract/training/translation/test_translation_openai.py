"""The openai backend against a real HTTP server that answers, delays, fails, truncates and talks nonsense."""

import logging
import time

import pytest

from relevance.errors import ConfigError
from tests.chat_server import chat_server
from training.data.disk_cache import DiskCache
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.translation.backends.openai import OpenAITranslator
from training.translation.backends.openai_options import OpenAIOptions
from training.translation.chain import TranslatorChain

TEXTS = [f"red cup {n}" for n in range(8)]
GERMAN = [f"de {text}" for text in TEXTS]


def opened(url, **fields):
    options = {"model": "m", "url": url, "texts_per_request": 4, "timeout_seconds": 5}
    return OpenAITranslator(OpenAIOptions(**{**options, **fields}))


def translated(*plan, texts=TEXTS, options=None, **fields):
    """Return the translations, the translator after them, and the server's log."""
    with chat_server(*plan, options=options) as endpoint:
        translator = opened(endpoint.url, **fields)
        try:
            return translator.translate(texts, "en", "de"), translator, endpoint.log()
        finally:
            translator.close()


def test_batches_come_back_in_order_with_their_cost():
    found, translator, log = translated()
    assert found == GERMAN
    assert [request["mode"] for request in log["requests"]] == ["json_schema"] * 2
    assert translator.cost.requests == 2
    assert translator.cost.charged_tokens == 2 * 100 + 8 * 10


def test_requests_under_way_are_bounded():
    texts = [f"cup {n}" for n in range(12)]
    _, _, log = translated(texts=texts, options={"seconds": 0.1}, texts_per_request=1, concurrency=3)
    assert log["most_active"] == 3


@pytest.mark.parametrize(
    ("refuses", "last"), [(["json_schema"], "json_object"), (["json_schema", "json_object"], "text")]
)
def test_a_server_without_structured_output_is_asked_in_a_simpler_way(refuses, last):
    found, _, log = translated(options={"refuses": refuses}, concurrency=1)
    assert found == GERMAN
    assert [r["mode"] for r in log["requests"]] == [*refuses, last, last]  # refused once, then remembered


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_failure_is_tried_again(code):
    found, _, log = translated({"do": "status", "code": code}, {"do": "status", "code": code}, concurrency=1)
    assert found == GERMAN
    assert len(log["requests"]) == 4


def test_retry_after_is_honoured():
    step = {"do": "status", "code": 429, "headers": {"Retry-After": "1"}}
    _, _, log = translated(step, texts=TEXTS[:1])
    first, second = (request["time"] for request in log["requests"])
    assert second - first >= 1.0


def test_too_long_a_wait_is_an_error_that_says_so():
    step = {"do": "status", "code": 429, "headers": {"Retry-After": "3600"}}
    with pytest.raises(StoppedError, match="asks to wait 3600 s"):
        translated(step, texts=TEXTS[:1])


@pytest.mark.parametrize(
    ("step", "seconds"), [({"do": "drop"}, 60), ({"do": "html"}, 60), ({"do": "answer", "late": 1}, 2)]
)
def test_a_broken_or_late_answer_is_tried_again_and_charged_in_full(step, seconds):
    found, translator, log = translated(step, texts=TEXTS[:2], timeout_seconds=seconds)
    assert found == GERMAN[:2]
    assert len(log["requests"]) == 2
    assert translator.cost.charged_tokens > translator.cost.prompt_tokens + translator.cost.completion_tokens


def test_whole_items_of_a_truncated_answer_are_kept_and_the_rest_asked_alone():
    found, _, log = translated({"do": "truncate"}, texts=TEXTS[:4])
    assert found == GERMAN[:4]
    assert [request["texts"] for request in log["requests"]] == [TEXTS[:4], [TEXTS[3]]]


@pytest.mark.parametrize("kind", ["malformed", "empty"])
def test_an_answer_without_translations_is_asked_again_item_by_item(kind):
    found, _, log = translated({"do": kind}, texts=TEXTS[:3])
    assert found == GERMAN[:3]
    assert [len(request["texts"]) for request in log["requests"]] == [3, 1, 1, 1]


def test_an_answer_wrapped_in_talk_is_read():
    found, _, log = translated({"do": "fenced"}, texts=TEXTS[:3])
    assert found == GERMAN[:3]
    assert len(log["requests"]) == 1


def test_a_text_that_never_comes_back_is_none_and_does_not_hold_up_the_others():
    found, _, log = translated(texts=TEXTS[:4], options={"never": [TEXTS[1]]}, text_attempts=2)
    assert found == [GERMAN[0], None, *GERMAN[2:4]]
    assert [request["texts"] for request in log["requests"]][1:] == [[TEXTS[1]]] * 2


def test_a_server_that_is_down_is_named_and_finished_work_is_handed_over():
    steps = [{"do": "answer"}, *[{"do": "status", "code": 503}] * 3]
    with pytest.raises(StoppedError, match="HTTP 503") as caught:
        translated(*steps, concurrency=1, attempts=3)
    assert caught.value.done == dict(enumerate(GERMAN[:4]))


def test_no_server_at_all():
    with chat_server() as endpoint:
        url = endpoint.url
    translator = opened(url, attempts=2)
    with pytest.raises(StoppedError, match=r"cannot be reached .* 2 times"):
        translator.translate(TEXTS, "en", "de")
    assert translator.cost.charged_tokens == 0
    translator.close()


def test_finished_work_is_in_the_cache_and_not_paid_for_again(tmp_path):
    steps = [{"do": "answer"}, {"do": "status", "code": 503}, {"do": "status", "code": 503}]
    with chat_server(*steps) as endpoint, DiskCache(tmp_path / "c.sqlite", "translation cache") as cache:
        for attempts, works in ((1, False), (2, True)):
            translator = opened(endpoint.url, concurrency=1, attempts=attempts)
            chain = TranslatorChain([translator], cache)
            if works:
                assert [found.text for found in chain.translate(TEXTS, "en", "de").values()] == GERMAN
                assert (chain.cache_hits, chain.asked) == (4, 4)
            else:
                with pytest.raises(StoppedError, match="4 translations are kept in"):
                    chain.translate(TEXTS, "en", "de")
            translator.close()
        assert endpoint.texts().count(TEXTS[0]) == 1


def test_the_budget_is_never_overshot():
    texts = [f"cup {n}" for n in range(100)]
    with chat_server(options={"seconds": 0.02}) as endpoint:
        translator = opened(endpoint.url, budget_tokens=4000, concurrency=4, texts_per_request=2)
        with pytest.raises(BudgetSpentError, match="4,000 tokens") as caught:
            translator.translate(texts, "en", "de")
        assert 0 < translator.cost.charged_tokens <= 4000
        assert caught.value.done == {n: f"de {texts[n]}" for n in caught.value.done}
        assert len(caught.value.done) == 2 * len(endpoint.log()["requests"])
        translator.close()


def test_a_budget_in_money_counts_by_the_prices():
    prices = {"price_per_million_prompt": 1000.0, "price_per_million_completion": 2000.0}
    _, translator, _ = translated(texts=TEXTS[:4], budget_money=5.0, **prices)
    assert translator.cost.money == pytest.approx(0.1 + 0.08)
    with pytest.raises(ValueError, match="no prices"):
        opened("http://127.0.0.1:1", budget_money=5.0)


def test_the_key_is_sent_from_its_variable_and_never_told(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SHOP_KEY", "secret-123")
    _, _, log = translated(options={"key": "secret-123"}, api_key_variable="SHOP_KEY")
    assert {request["authorization"] for request in log["requests"]} == {"Bearer secret-123"}
    monkeypatch.setenv("SHOP_KEY", "secret-456")
    with pytest.raises(ConfigError, match=r"401 with the key in \$SHOP_KEY") as caught:
        translated(options={"key": "secret-123"}, api_key_variable="SHOP_KEY")
    assert "secret" not in str(caught.value) + caplog.text
    step = {"do": "status", "code": 503, "body": "you sent Bearer secret-456"}
    with pytest.raises(StoppedError, match=r"Bearer \*\*\*") as stopped:
        translated(step, texts=TEXTS[:1], attempts=1, api_key_variable="SHOP_KEY")
    assert "secret" not in str(stopped.value)


def test_without_a_variable_no_key_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-123")
    _, _, log = translated(texts=TEXTS[:1])
    assert log["requests"][0]["authorization"] is None


def test_nothing_is_told_of_this_machine_nor_of_an_account(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Key: secret-123")
    _, _, log = translated(texts=TEXTS[:1])
    names = {name.lower() for name in log["requests"][0]["headers"]}
    assert names == {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}


def test_a_missing_key_and_a_wrong_model_are_named(monkeypatch):
    monkeypatch.delenv("SHOP_KEY", raising=False)
    with pytest.raises(ConfigError, match="SHOP_KEY"):
        opened("http://127.0.0.1:1", api_key_variable="SHOP_KEY")
    with pytest.raises(ConfigError, match=r"'m' at .*HTTP 404.*no such model"):
        translated(options={"model": "other"})


def test_extra_fields_go_out_and_null_takes_one_away():
    _, _, log = translated(texts=TEXTS[:1], extra_body={"top_p": 0.5, "temperature": None})
    assert log["requests"][0]["body"]["top_p"] == 0.5
    assert "temperature" not in log["requests"][0]["body"]


def test_a_translator_that_is_closed_ends_soon():
    step = {"do": "status", "code": 503}
    with chat_server(*[step] * 9) as endpoint:
        translator = opened(endpoint.url)
        translator.close()
        begun = time.monotonic()
        with pytest.raises((StoppedError, RuntimeError)):
            translator.translate(TEXTS[:1], "en", "de")
        assert time.monotonic() - begun < 30
