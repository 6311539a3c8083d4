"""A team draft has every candidate once, and is fair to both teams at every length."""

from hypothesis import given
from hypothesis import strategies as st

from relevance.feedback import Team
from service.feedback.team_draft import team_draft

RANKINGS = st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.permutations(range(n))] * 2))


@given(RANKINGS, st.text())
def test_every_candidate_is_there_once_and_no_team_is_more_than_one_ahead(rankings, seed):
    draft = team_draft(*rankings, seed)
    assert sorted(draft.order) == sorted(rankings[0])
    for length in range(len(draft.teams) + 1):
        picks = draft.teams[:length]
        assert abs(picks.count(Team.ACTIVE) - picks.count(Team.CHALLENGER)) <= 1


@given(RANKINGS, st.text())
def test_each_pick_is_the_best_that_its_team_has_left(rankings, seed):
    draft = team_draft(*rankings, seed)
    for place, (pick, team) in enumerate(zip(draft.order, draft.teams, strict=True)):
        own = rankings[0] if team is Team.ACTIVE else rankings[1]
        assert pick == next(each for each in own if each not in draft.order[:place])


def test_equal_seeds_give_equal_lists_and_others_do_not():
    active, challenger = list(range(30)), list(reversed(range(30)))
    assert team_draft(active, challenger, "a") == team_draft(active, challenger, "a")
    assert team_draft(active, challenger, "a") != team_draft(active, challenger, "b")


def test_each_team_picks_first_in_half_of_the_lists():
    drafts = [team_draft([0, 1], [1, 0], f"seed {number}") for number in range(2000)]
    assert 900 < sum(draft.teams[0] is Team.ACTIVE for draft in drafts) < 1100


def test_a_list_is_longer_than_one_hash_has_coins():
    assert len(team_draft(list(range(3000)), list(reversed(range(3000))), "seed").order) == 3000


def test_candidates_that_the_challenger_lacks_are_the_active_ones_picks():
    draft = team_draft([0, 1, 2, 3], [2], "seed")
    assert sorted(draft.order) == [0, 1, 2, 3]
    assert draft.teams[2:] == [Team.ACTIVE] * 2
