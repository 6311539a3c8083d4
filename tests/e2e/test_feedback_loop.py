"""The whole feedback loop with a real server: serve, log, click, from-logs, train. Users and sample are synthetic."""

import importlib.util

import pytest

from tests import ROOT

SPEC = importlib.util.spec_from_file_location("feedback_loop", ROOT / "benchmarks/operate/feedback_loop.py")
LOOP = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(LOOP)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return LOOP.loop(tmp_path_factory.mktemp("loop"), scale=0.15)


def test_nothing_that_users_did_is_lost(found):
    users, rows = found["users"], found["rows"]
    assert found["dropped"] == rows["unmatched"] == rows["bad_lines"] == 0
    assert rows["lists"] == users["queries"]
    assert rows["events"] == users["shown"] + users["clicks"]
    assert (rows["clicks"], rows["impressions"]) == (users["clicks"], users["shown"])


def test_the_model_trained_on_clicks_is_better_than_the_one_that_was_clicked_on(found):
    against = found["after_against_before"]
    assert against["verdict"] == "better", against
    assert against["auc"]["difference"]["low"] > 0
