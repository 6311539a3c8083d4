"""The verdict on interleaved rankings: who won, how sure that is, and what cannot be judged."""

import random
from collections import Counter

import pytest
from scipy.stats import binomtest

from relevance.errors import InputError
from relevance.feedback import Team
from service.feedback.team_draft import team_draft
from tests.feedback_logs import Log
from training.feedback.interleaving import judge, preference_of


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


def won(log, count, place, prefix, **given):
    """Add lists whose candidate at this place was clicked: 0 is the active model's pick, 1 the challenger's."""
    for number in range(count):
        request = f"{prefix}-{number}"
        log.scores(request, f"query {request}", ["a", "b"], teams="ac", **given)
        log.clicks(request, place)


def test_wins_losses_and_ties_are_counted_by_language(log):
    won(log, 30, 1, "won", language="en")
    won(log, 10, 0, "lost", language="de")
    for number, places in enumerate([(0, 1), (0, 1), ()]):
        log.scores(f"tie-{number}", "tie", ["a", "b"], teams="ac", language="de")
        if places:
            log.clicks(f"tie-{number}", *places)
    (trial,) = judge(log.folder).trials
    assert (trial.active, trial.challenger, trial.verdict) == ("v1", "v2", "challenger")
    found = trial.languages["all"]
    assert (found.lists, found.clicked, found.queries) == (43, 42, 41)
    assert (found.challenger_wins, found.active_wins, found.ties) == (30, 10, 2)
    assert found.preference.value == pytest.approx(31 / 42)
    assert found.p == pytest.approx(binomtest(30, 40).pvalue)
    assert (trial.languages["de"].challenger_wins, trial.languages["de"].verdict) == (0, "active")
    assert list(trial.languages) == ["all", "de", "en"]


def test_a_small_difference_is_unproven(log):
    won(log, 12, 1, "won")
    won(log, 9, 0, "lost")
    (trial,) = judge(log.folder).trials
    assert trial.verdict == "unproven"
    assert trial.languages["all"].preference.low < 0.5 < trial.languages["all"].preference.high


def test_one_query_that_always_wins_proves_nothing(log):
    for number in range(60):
        log.scores(str(number), "the same query", ["a", "b"], teams="ac")
        log.clicks(str(number), 1)
    (trial,) = judge(log.folder).trials
    assert (trial.languages["all"].p < 0.001, trial.verdict) == (True, "unproven")


def test_lists_without_clicks_and_events_of_other_lists_judge_nothing(log):
    log.scores("1", "query", ["a", "b"], teams="ac")
    log.scores("2", "query", ["a", "b"])
    log.clicks("2", 0)
    (trial,) = judge(log.folder).trials
    found = trial.languages["all"]
    assert (found.clicked, found.p, found.preference.value, trial.verdict) == (0, None, None, "unproven")
    assert "preference -, p -" in trial.text()


def test_a_log_without_interleaved_lists_is_refused(log):
    log.scores("1", "query", ["a", "b"])
    with pytest.raises(InputError, match="no list is interleaved; expected rerank requests with `interleave`"):
        judge(log.folder)


def lists_of(quality, count, seed):
    """Yield lists of users who look down a list and click on what is relevant: their order, teams and clicked places.

    `quality` in [0, 1] is the challenger's; that of the active model is one half.
    """
    rng = random.Random(seed)
    for number in range(count):
        relevant = rng.randrange(8)
        orders = [
            sorted(range(8), key=lambda each, s=sharpness, r=relevant: rng.random() - s * (each == r))
            for sharpness in (0.5, quality)
        ]
        draft = team_draft(*orders, f"{seed} {number}")
        clicks = [
            place
            for place, each in enumerate(draft.order)
            if rng.random() < (0.9 / (1 + place) if each == relevant else 0.05)
        ]
        yield draft, clicks


@pytest.mark.parametrize(("quality", "verdict"), [(1.0, "challenger"), (0.0, "active")])
def test_simulated_users_find_the_better_ranking(log, quality, verdict):
    for number, (draft, clicks) in enumerate(lists_of(quality, 400, 0)):
        teams = "".join(team[0] for team in draft.teams)
        log.scores(str(number), f"query {number}", [f"c{each}" for each in draft.order], teams=teams)
        if clicks:
            log.clicks(str(number), *clicks)
    assert judge(log.folder).trials[0].verdict == verdict


def test_equal_rankings_are_told_apart_in_one_of_twenty_logs():
    told = 0
    for seed in range(200):
        queries = Counter()
        for draft, clicks in lists_of(0.5, 100, seed):
            difference = sum(1 if draft.teams[place] is Team.CHALLENGER else -1 for place in clicks)
            if clicks:
                queries[difference > 0, difference < 0, difference == 0] += 1
        told += preference_of(100, queries, 0).verdict != "unproven"
    assert 1 <= told <= 16
