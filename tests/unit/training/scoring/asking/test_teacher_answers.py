"""From the log-probabilities of an answer's first token to a score."""

import math

import pytest

from relevance.tasks import Task
from relevance.text.prompt import Prompt
from training.scoring.asking.teacher import READ, score_of, score_of_ranker
from training.scoring.options import AskOptions

PROMPT = Prompt(text="{query} {candidate}", yes=" yes", no=" no")


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ({"yes": math.log(0.6), "no": math.log(0.2), "maybe": math.log(0.1)}, 0.75),
        ({" Yes": math.log(0.3), "yes": math.log(0.3), "NO": math.log(0.2)}, 0.75),
        ({"▁yes": math.log(0.5), "Ġno": math.log(0.5)}, 0.5),
        ({"yes": math.log(0.9), "Sure": math.log(0.1)}, 0.9),  # `no` has at most the probability of `Sure`
        ({"Sure": -0.1, "yes,": -2.0}, None),
    ],
)
def test_score_is_the_share_of_yes_among_both_answers(sides, expected):
    found = score_of(sides, PROMPT)
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"results": [{"index": 0, "relevance_score": 0.25}]}, 0.25),
        ({"results": [{"index": 0, "relevance_score": 3.2}]}, None),  # a logit
        ({"results": [{"index": 0, "relevance_score": float("nan")}]}, None),
        ({"results": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_score_of_a_re_ranker_is_read_from_its_one_result(reply, expected):
    assert score_of_ranker(reply) == expected


@pytest.mark.parametrize("api", READ)
@pytest.mark.parametrize("reply", [None, [], {}, {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": 3}])
def test_reply_of_another_shape_has_no_log_probabilities(api, reply):
    assert READ[api](reply) == {}


def test_prompt_is_that_of_the_task_unless_a_text_is_given():
    options = {"model": "m", "url": "http://host/v1"}
    assert "Category: {candidate}" in AskOptions(**options).prompt(Task.QC).text
    assert AskOptions(**options, steps=True).prompt(Task.QI).text.startswith("Judge whether an item answers")
    assert AskOptions(**options, text="{query}|{candidate}").prompt(Task.QI).text == "{query}|{candidate}"


def test_further_fields_are_read_as_json():
    further = {"chat_template_kwargs": '{"enable_thinking": false}', "seed": "7", "user": "me"}
    options = AskOptions(model="m", url="http://host/v1", extra_body=further)
    assert options.extra_body == {"chat_template_kwargs": {"enable_thinking": False}, "seed": 7, "user": "me"}
