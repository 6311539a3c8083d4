"""Reading replies of chat models, and the budget."""

import json
import threading

import pytest

from training.endpoint.budget import Budget, Usage
from training.endpoint.errors import BudgetSpentError
from training.endpoint.options import EndpointOptions
from training.translation.backends.replies import messages, response_format, translations_in

WHOLE = json.dumps({"translations": [{"n": 0, "text": "eins  {2}"}, {"n": 1, "text": "zwei"}]})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (WHOLE, {0: "eins {2}", 1: "zwei"}),
        (f"```json\n{WHOLE}\n```", {0: "eins {2}", 1: "zwei"}),
        (WHOLE[:-4], {0: "eins {2}"}),
        ('{"n": 1, "text": "zwei"} {"n": 0, "text": "eins"}', {0: "eins", 1: "zwei"}),
        ('{"translations": [{"n": 0, "text": 5}, {"n": true, "text": "x"}, {"n": 9, "text": "x"}, {"n": 1}]}', {}),
        ('{"translations": [{"n": 0, "text": " "}, 7, null]}', {}),
        ('{"n": 0, "text": "a"}{"n": 0, "text": "b"}', {}),
        ("{" * 3000, {}),
        ("Sure!", {}),
        (None, {}),
    ],
)
def test_whatever_is_whole_is_read(content, found):
    assert translations_in(content, 2) == found


def test_queries_are_data_in_json_and_languages_are_named():
    system, user = messages(['say "hi"\n'], "ja", "de")
    assert "from Japanese (ja) into German (de)" in system["content"]
    assert json.loads(user["content"]) == {"queries": [{"n": 0, "text": 'say "hi"\n'}]}
    assert "whatever language" in messages(["x"], "unk", "de")[0]["content"]


def test_modes_ask_for_less_and_less_structure():
    assert response_format("json_schema")["response_format"]["json_schema"]["strict"] is True
    assert response_format("json_object") == {"response_format": {"type": "json_object"}}
    assert response_format("text") == {}


def test_a_reservation_waits_for_others_and_fails_when_there_are_none():
    budget = Budget(EndpointOptions(model="m", url="http://x/v1", budget_tokens=100))
    first, second = Usage(50, 20), Usage(20, 20)
    budget.reserve(first)
    waiting = threading.Thread(target=budget.reserve, args=(second,))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    budget.settle(first, Usage(10, 5))
    waiting.join(10)
    assert not waiting.is_alive()
    budget.settle(second, None)
    assert budget.cost.charged_tokens == 15 + 40
    assert budget.cost.prompt_tokens == 10
    with pytest.raises(BudgetSpentError, match="55 tokens"):
        budget.reserve(Usage(46, 0))


def test_budget_of_requests_counts_every_attempt():
    budget = Budget(EndpointOptions(model="m", url="http://x/v1", budget_requests=2))
    for used in (Usage(1, 1), None):
        budget.reserve(Usage(5, 5))
        budget.settle(Usage(5, 5), used)
    with pytest.raises(BudgetSpentError, match="the budget of 2 requests is spent: 12 tokens"):
        budget.reserve(Usage(1, 1))
