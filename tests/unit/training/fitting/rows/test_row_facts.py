"""The facts that sampling and losses within a query need are gathered only where the recipe asks."""

from relevance.tasks import LabeledPair, Pair
from training.data.groups import source_groups
from training.fitting.recipe import TrainingSection
from training.fitting.rows.row_facts import facts_of


def row(row_id, query, label=1, language="en", **extra):
    return LabeledPair(Pair(query, "a,b", language), label, row_id, extra)


ROWS = [
    row("1", "Cup"),
    row("2", "cup ", label=0),
    row("3", "cup", language="de"),
    row("1~de", "tasse", language="de", source="translation", source_id="1"),
    row("1~n", "cup", label=0, source="negative", source_id="1"),
    row("1~de~n", "tasse", label=0, language="de", source="negative", source_id="1~de"),
]


def facts(tmp_path, **settings):
    return facts_of(ROWS, TrainingSection(**settings), tmp_path / "lacking")


def test_nothing_is_gathered_where_nothing_is_asked(tmp_path):
    found = facts(tmp_path)
    assert found.counts is None
    assert [len(values) for values in (found.queries, found.factors, found.teacher)] == [0, 0, 0]


def test_rows_of_one_query_and_language_have_one_number(tmp_path):
    found = facts(tmp_path, lambdarank_weight=1)
    assert found.queries.tolist() == [0, 0, 1, 2, 0, 2]
    assert (found.counts.queries, found.counts.one_class_queries, found.counts.one_class_rows) == (3, 1, 1)


def test_a_row_with_its_translations_and_negatives_is_one_group(tmp_path):
    assert source_groups(ROWS).tolist() == [0, 1, 2, 0, 0, 0]
    assert facts(tmp_path, copies_as_one=True).factors.tolist() == [0.5, 2, 2, 0.5, 0.5, 0.5]
