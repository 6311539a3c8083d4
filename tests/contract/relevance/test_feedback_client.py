"""`feedback()` of the clients against the real service and its log."""

import asyncio
import json
import signal

import pytest

from relevance.client import AsyncClient, Client, FeedbackEvent, FeedbackResult, RefusedError
from relevance.errors import ConfigError
from tests.serving import running

TITLES = ["Red cup", "Blue mug", "Shoes"]


def test_events_of_both_clients_are_in_the_log_with_the_scores(bundle, tmp_path):
    async def judge(url, request_id):
        async with AsyncClient(url) as client:
            judged = FeedbackEvent("judgement", candidate="Shoes", grade="I", annotator="a1")
            return await client.feedback(request_id, [judged], query="cup")

    with running({"qc": bundle}, feedback_folder=tmp_path, feedback_text="all") as process:
        with Client(process.wait_ready()) as client:
            result = client.rerank("qc", "cup", TITLES, budget_ms=60_000)
            best = result.order[0]
            events = [FeedbackEvent("shown", index=best, position=0), FeedbackEvent("click", index=best)]
            assert client.feedback(result.request_id, events) == FeedbackResult(logged=2, sampled=True)
        assert asyncio.run(judge(process.wait_ready(), result.request_id)) == FeedbackResult(1, True)
        assert process.end(signal.SIGTERM) == 0
    lines = [json.loads(line) for file in tmp_path.glob("feedback-*.jsonl") for line in file.read_text().splitlines()]
    assert {line["request_id"] for line in lines} == {result.request_id}
    logged = [line for line in lines if line["kind"] == "feedback"]
    assert [line["type"] for line in logged] == ["shown", "click", "judgement"]
    assert [line.get("index") for line in logged] == [best, best, None]
    assert (logged[2]["grade"], logged[2]["annotator"]) == ("I", "a1")


def test_request_outside_the_share_is_told_and_a_service_without_a_log_refuses(bundle, tmp_path):
    events = [FeedbackEvent("click", index=0)]
    with (
        running({"qc": bundle}, feedback_folder=tmp_path, feedback_share=0) as process,
        Client(process.wait_ready()) as client,
    ):
        assert client.feedback("search-1", events) == FeedbackResult(logged=0, sampled=False)
    with running({"qc": bundle}) as process, Client(process.wait_ready()) as client:
        with pytest.raises(RefusedError, match="feedback_off: there is no feedback log here"):
            client.feedback("search-1", events)
        with pytest.raises(ConfigError, match="request_id None: expected that of the scored request"):
            client.feedback(None, events)
        with pytest.raises(ConfigError, match="timeout_seconds 0: expected seconds above 0"):
            client.feedback("search-1", events, timeout_seconds=0)
        for wrong in ([], [{"type": "click", "index": 0}]):
            with pytest.raises(ConfigError, match="expected at least one FeedbackEvent"):
                client.feedback("search-1", wrong)


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        ({"type": "buy", "index": 0}, "type 'buy': expected shown, click, judgement"),
        ({"type": "click"}, "index None and candidate None: expected one of them"),
        ({"type": "click", "index": 0, "candidate": "cup"}, "index 0 and candidate 'cup': expected one of them"),
        ({"type": "judgement", "index": 0}, "grade None with type 'judgement': expected a grade for a judgement only"),
        ({"type": "click", "index": 0, "grade": 1}, "grade 1 with type 'click'"),
        ({"type": "click", "index": 0, "annotator": "a"}, "annotator 'a' with type 'click'"),
    ],
)
def test_event_that_the_service_does_not_take_is_refused_here(event, fault):
    with pytest.raises(ConfigError, match=fault):
        FeedbackEvent(**event)
