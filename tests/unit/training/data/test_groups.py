"""Linked rows: one rule, the same groups as merging until nothing changes, in any order of rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tasks import LabeledPair, Pair
from training.data.groups import group_key, linked_groups


def row(id, query, **extra):
    return LabeledPair(Pair(query, "a,b", "en"), 1, str(id), extra)


@st.composite
def linked_rows(draw):
    """Rows of few queries and few ids, that name sources which are there, which are made rows, or which are gone."""
    count = draw(st.integers(1, 14))
    query = st.sampled_from(["Cup", "cup ", "lamp", "靴", "ｃｕｐ", "mug", "vase", "tasse", "buty", "vaso", "lampe"])
    source = st.none() | st.integers(0, 17)
    made = []
    for _ in range(count):
        named = draw(source)
        made.append(row(draw(st.integers(0, 12)), draw(query), **({} if named is None else {"source_id": named})))
    return made


def merged(rows):
    """Return the sets of row indices, merged until nothing changes: the rule, as plainly as can be."""
    named = {str(each.extra["source_id"]) for each in rows if "source_id" in each.extra}
    marks = [
        {("query", group_key(each.pair.query))}
        | {("id", name) for name in (each.id, str(each.extra.get("source_id"))) if name in named}
        for each in rows
    ]
    groups = [({n}, mark) for n, mark in enumerate(marks)]
    while True:
        pair = next(((a, b) for n, a in enumerate(groups) for b in groups[:n] if a[1] & b[1]), None)
        if pair is None:
            return {frozenset(members) for members, _ in groups}
        groups = [each for each in groups if each not in pair] + [(pair[0][0] | pair[1][0], pair[0][1] | pair[1][1])]


@given(linked_rows())
def test_groups_are_those_of_merging_until_nothing_changes(rows):
    found = {}
    for n, group in enumerate(linked_groups(rows)):
        found.setdefault(group, set()).add(n)
    assert {frozenset(members) for members in found.values()} == merged(rows)
    for group, members in found.items():
        assert group == min(group_key(rows[n].pair.query) for n in members)


@given(linked_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_makes_no_difference(rows, random):
    order = random.sample(range(len(rows)), len(rows))
    groups = linked_groups(rows)
    assert linked_groups([rows[n] for n in order]) == [groups[n] for n in order]


def test_rows_made_of_a_row_that_is_gone_stay_together():
    groups = linked_groups([row("7~de", "tasse", source_id="7"), row("7~fr", "vase", source_id="7"), row(8, "cup")])
    assert groups == ["tasse", "tasse", "cup"]


def test_a_chain_of_made_rows_is_one_group():
    rows = [row(n, f"query {n}", source_id=n - 1) for n in range(1, 3000)]
    assert set(linked_groups(rows)) == {"query 1"}


def test_ids_repeated_by_chance_link_nothing():
    assert linked_groups([row(1, "cup"), row(1, "lamp"), row(1, "mug")]) == ["cup", "lamp", "mug"]


def test_a_source_may_be_named_by_a_number():
    assert linked_groups([row("7", "cup"), row("x", "tasse", source_id=7)]) == ["cup", "cup"]


@pytest.mark.parametrize(
    "query",
    [
        *("Tom &amp; Jerry", "tom &#38; jerry", "tom\u200b & jerry", "\ufefftom & jerry", "tom &\u00a0jer\u00adry"),
        *("ｔｏｍ ＆ jerry", "TOM  & JERRY\u200e"),
    ],
)
def test_what_no_reader_sees_makes_no_other_query(query):
    assert group_key(query) == group_key("tom & jerry")
    assert linked_groups([row(1, query), row(2, "tom & jerry")]) == ["tom & jerry"] * 2


def test_case_makes_no_other_query_in_any_script():
    assert group_key("ταΐστρα".upper()) == group_key("ταΐστρα")
    assert group_key("cafe\u0301".upper()) == group_key("café")


def test_no_rows_have_no_groups():
    assert linked_groups([]) == []
