import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.formatting import NAMES_WITH_COMMA, PairFormat, split_levels
from relevance.tasks import Pair, Task, query_key


@pytest.mark.parametrize(
    ("path", "levels"),
    [
        ("shoes,sneakers", ["shoes", "sneakers"]),
        ("automobiles, parts & accessories,car electronics", ["automobiles, parts & accessories", "car electronics"]),
        ("home & garden,kitchen,dining & bar,bakeware", ["home & garden", "kitchen,dining & bar", "bakeware"]),
        ("Home & Garden,Arts,Crafts & Sewing", ["Home & Garden", "Arts,Crafts & Sewing"]),
        ("sports shoes,clothing&accessories,golf", ["sports shoes,clothing&accessories", "golf"]),
        ("a,fireplaces,stoves,stoves", ["a", "fireplaces,stoves", "stoves"]),
        ("bread,kitchen,dining & barware", ["bread", "kitchen", "dining & barware"]),
        ("one", ["one"]),
        (" spaced\u00a0out ,b", ["spaced out", "b"]),
        (",a,,b,", ["a", "b"]),
        ("", []),
    ],
)
def test_split_levels(path, levels):
    assert split_levels(path) == levels


names = st.text(st.characters(exclude_characters=",", exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1)


@given(st.lists(st.one_of(names, st.sampled_from(NAMES_WITH_COMMA)), min_size=1, max_size=5))
def test_levels_joined_by_bare_commas_are_split_again(levels):
    joined = ",".join(levels)
    again = split_levels(joined)
    # Two plain names can spell a known one (`arts` + `crafts & sewing`): what is split is then joined by that rule.
    assert ",".join(again) == joined
    assert split_levels(",".join(again)) == again


def test_texts_of_a_category_pair():
    form = PairFormat(query_prefix="query: ", candidate_prefix="category: ", language_tag=True)
    pair = Pair(" red \n shoes", "shoes,running shoes", "ja")
    assert form.texts(Task.QC, pair) == ("query: [ja] red shoes", "category: shoes > running shoes")


def test_commas_of_a_title_are_left_alone():
    assert PairFormat().candidate_text(Task.QI, "cup,red,small") == "cup,red,small"


def test_own_names_with_comma():
    form = PairFormat(names_with_comma=("nuts,bolts",))
    assert form.levels("tools,nuts,bolts,m4") == ["tools", "nuts,bolts", "m4"]


def test_query_key_ignores_case_and_white_space():
    assert query_key(" Red\u00a0 SHOES ") == query_key("red shoes")
    assert query_key("STRASSE") == query_key("straße")
    assert query_key("ＵＳＢ ｹｰﾌﾞﾙ") == query_key("usb ケーブル")
    assert query_key("cafe\u0301") == query_key("café")
