import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tasks import Pair, Task, query_key
from relevance.text import titles
from relevance.text.formatting import NAMES_WITH_COMMA, PairFormat, find_separator, path_levels, split_levels


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


@pytest.mark.parametrize(
    ("paths", "separator"),
    [
        (["Home > Kitchen > Cups", "Home", "Clothing, Shoes & Jewelry > Women"], " > "),
        (["Home>Kitchen>Cups", "Garden>Hoses"], " > "),
        (["Home|Kitchen, Dining|Cups", "Garden|Hoses"], "|"),
        (["Home / Kitchen / Cups", "Garden / A/C parts"], " / "),
        (["Home, Kitchen, Cups", "Garden, Hoses"], ", "),
        (["automobiles, parts & accessories,car electronics", "home,kitchen,dining & bar"], ","),
        (["Maison › Cuisine › Tasses"], "›"),
        (["Home/Kitchen/Cups"], "/"),
        (["Home -> Kitchen -> Cups", "Garden->Hoses"], "->"),
        (["Home => Kitchen"], "=>"),
        (["Home → Kitchen, Dining → Cups"], "→"),
        (["Home::Kitchen::Cups"], "::"),
        (["Home • Kitchen • Cups, Mugs"], "•"),
        (["Home · Kitchen · Col·legi"], " · "),
        (["ホーム＞キッチン＞カップ"], "＞"),
        (["Home\\Kitchen\\Cups"], "\\"),
        (["Home", "Garden"], ","),
        ([], ","),
    ],
)
def test_separator_of_paths_is_found(paths, separator):
    assert find_separator(paths) == separator


@pytest.mark.parametrize(
    ("path", "separator", "levels"),
    [
        ("Home > Kitchen, Dining >Cups", " > ", ["Home", "Kitchen, Dining", "Cups"]),
        ("Home|Kitchen | Cups", "|", ["Home", "Kitchen", "Cups"]),
        ("Garden / A/C parts", " / ", ["Garden", "A/C parts"]),
        ("Nails, 4,5 mm, steel", ", ", ["Nails", "4,5 mm", "steel"]),
        ("home,kitchen,dining & bar", ",", ["home", "kitchen,dining & bar"]),
        ("Home -> Kitchen, Dining->Cups", "->", ["Home", "Kitchen, Dining", "Cups"]),
        ("Home · Col·legi", " · ", ["Home", "Col·legi"]),
        (" > ", " > ", []),
    ],
)
def test_path_levels(path, separator, levels):
    assert path_levels(path, separator) == levels


def test_format_finds_the_separator_once_and_keeps_it():
    form = PairFormat().fitted(Task.QC, ["Home > Kitchen", "Garden > Hoses, 3 m"])
    assert form.path_separator == " > "
    assert form.candidate_text(Task.QC, "Garden>Hoses,3 m") == "Garden > Hoses,3 m"
    assert form.fitted(Task.QC, ["a|b"]) == form
    assert PairFormat(path_separator="|").fitted(Task.QC, ["a > b"]).path_separator == "|"
    assert PairFormat().fitted(Task.QI, ["a > b"]).path_separator is None


@pytest.mark.parametrize("text", ["tom &amp; jerry", "ＴＯＭ ＆ jerry", "tom \u200b&#38; jerry"])
def test_queries_titles_and_levels_are_normalised(text):
    form = PairFormat()
    assert form.query_text(text).lower() == "tom & jerry"
    assert form.candidate_text(Task.QI, text).lower() == "tom & jerry"
    assert form.candidate_text(Task.QC, f"toys,{text}").lower() == "toys > tom & jerry"


@given(st.text(st.sampled_from("a,b &#44;amp，.>"), max_size=20))
def test_normalisation_makes_no_levels_and_joins_none(path):
    assert len(PairFormat().levels(path)) == len(split_levels(path))


def test_names_with_comma_are_known_behind_an_entity():
    assert PairFormat().levels("home,kitchen,dining &amp; bar") in (
        ["home", "kitchen,dining & bar"],
        ["home", "kitchen", "dining & bar"],
    )


def test_parameters_survive_json_and_use():
    form = PairFormat(promotions=("big deal",), path_separator="|")
    form.candidate_text(Task.QI, "cup, big deal")
    assert PairFormat.model_validate_json(form.model_dump_json()) == form


@pytest.mark.parametrize("unit", ["a ", "red shoes, size 42 ", "ab ab cd cd ", "La La ", ". "])
def test_repeats_in_a_long_text_are_looked_at_once(unit, monkeypatch):
    compared = 0

    def counted(keys, at, length):
        nonlocal compared
        found = times(keys, at, length)
        compared += found
        return found

    times = titles._times
    monkeypatch.setattr(titles, "_times", counted)
    text = unit * 4000
    titles.without_repeats(text)
    assert compared <= 4 * len(text.split())


@pytest.mark.parametrize("task", list(Task))
def test_as_is_leaves_texts_alone(task):
    pair = Pair("a  b\n&amp;", "x,y  ,FREE SHIPPING!\u200b")
    form = PairFormat(as_is=True, query_prefix="q: ", candidate_prefix="d: ")
    assert form.texts(task, pair) == ("q: a  b\n&amp;", "d: x,y  ,FREE SHIPPING!\u200b")


def test_a_document_is_normalised_and_is_neither_a_path_nor_a_title():
    text = PairFormat().candidate_text(Task.RERANK, "A,B  &amp; C, FREE SHIPPING!")
    assert text == "A,B & C, FREE SHIPPING!"
