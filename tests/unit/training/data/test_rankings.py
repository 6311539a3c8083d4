import pytest

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Pair
from training.data.rankings import lists_of


def row(query, label, language="en", **extra):
    return LabeledPair(Pair(query, "shoes", language), label, "1", extra)


def test_a_list_is_a_query_in_one_language_whatever_its_case():
    queries = lists_of([row("Red  shoes", 1), row("red shoes", 0), row("red shoes", 1, "de")]).queries
    assert queries[0] == queries[1] != queries[2]


def test_gains_are_shares_else_rising_grades_else_labels():
    graded = lists_of([row("a", 1, grade="3"), row("a", 0, grade=1.5), row("a", 0, grade=1)])
    assert (graded.gains_of, graded.gains) == ("grade", [2, 0.5, 0])
    shared = lists_of([row("a", 1, grade=3, label_share=0.75), row("a", 0, grade=1)])
    assert (shared.gains_of, shared.gains) == ("label_share", [0.75, 0])
    falling, missing, letters = (
        lists_of([row("a", 1, grade=first), row("a", 0, grade=second)]) for first, second in ((1, 3), (3, None), "EI")
    )
    assert [each.gains_of for each in (falling, missing, letters, lists_of([]))] == ["label"] * 4
    assert falling.gains is None


def test_a_share_out_of_range_is_named():
    with pytest.raises(InputError, match="label_share out of range"):
        lists_of([row("a", 1, label_share=1.5)])
