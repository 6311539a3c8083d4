import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import InputError, MachineError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.data.dataset import read_pairs
from training.data.splits import DEFAULT_FRACTIONS, leaks, split_pairs, summarize, write_pairs
from training.data.values import json_id

THIRDS = {"train": 0.5, "dev": 0.3, "test": 0.2}
LANGUAGES = ["en", "fr", "ja", "de"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def pair(query: str, label: int = 1, language: str = "en", number: int = 0, **extra) -> LabeledPair:
    return LabeledPair(Pair(query, "a category", language), label, str(number), extra)


@st.composite
def row_lists(draw):
    """Rows of thirty to forty queries: some in several rows, labels, languages and spellings."""
    anchors = [pair(f"query {i}", 1, "en", i) for i in range(30)]
    spell = st.sampled_from(
        [str.upper, str.title, lambda text: f"  {text}\t", lambda text: text.replace(" ", "\u3000")]
    )
    queries = st.builds(lambda i, change: change(f"query {i}"), st.integers(0, 40), spell)
    others = st.builds(pair, queries, st.sampled_from([0, 1]), st.sampled_from(LANGUAGES), st.integers(100, 10**6))
    return draw(st.permutations(anchors + draw(st.lists(others, max_size=40))))


def noisy_rows(count: int, seed: int) -> list[LabeledPair]:
    chance = random.Random(seed)
    return [
        pair(f"q{int(chance.paretovariate(0.6)) % count}", int(chance.random() < 0.7), chance.choice(LANGUAGES), i)
        for i in range(count)
    ]


@given(row_lists(), st.integers(0, 3))
def test_no_query_is_in_two_splits_and_every_row_is_in_one(rows, seed):
    splits = split_pairs(rows, fractions=THIRDS, seed=seed)
    keys = [{query_key(row.pair.query) for row in members} for members in splits.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert Counter(map(repr, rows)) == Counter(repr(row) for members in splits.values() for row in members)
    assert list(splits) == list(THIRDS)


@given(row_lists(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_same_seed_gives_same_splits_in_any_order_of_rows(rows, seed, chance):
    once = split_pairs(rows, fractions=THIRDS, seed=seed)
    shuffled = chance.sample(rows, len(rows))
    again = split_pairs(shuffled, fractions=THIRDS, seed=seed)
    for name in THIRDS:
        assert sorted(map(repr, once[name])) == sorted(map(repr, again[name]))


@given(row_lists())
def test_held_out_language_takes_its_queries_out_of_train(rows):
    rows = [*rows, pair("query 1", 0, "de"), pair("nur hier", 0, "de"), pair("QUERY 2", 1, "de")]
    splits = split_pairs(rows, fractions=THIRDS, seed=0, held_out_languages=["DE"])
    held = {query_key(row.pair.query) for row in rows if row.pair.language == "de"}
    assert not held & {query_key(row.pair.query) for row in splits["train"]}
    assert held <= {query_key(row.pair.query) for name in ("dev", "test") for row in splits[name]}


def test_rows_keep_their_order_within_a_split():
    rows = noisy_rows(500, seed=1)
    for members in split_pairs(rows, seed=0).values():
        numbers = [int(row.id) for row in members]
        assert numbers == sorted(numbers)


def test_other_seed_gives_other_splits():
    rows = noisy_rows(500, seed=1)
    tests = [{row.id for row in split_pairs(rows, seed=seed)["test"]} for seed in range(3)]
    assert tests[0] != tests[1] != tests[2]


@pytest.mark.parametrize("seed", range(3))
def test_single_rows_are_spread_over_language_and_label_to_the_row(seed):
    rows = [pair(f"q{i}", i % 3 > 0, LANGUAGES[i % 4], i) for i in range(2400)]
    for name, members in split_pairs(rows, seed=seed).items():
        counts = Counter((row.pair.language, row.label) for row in members)
        for stratum, total in Counter((row.pair.language, row.label) for row in rows).items():
            assert abs(counts[stratum] - DEFAULT_FRACTIONS[name] * total) < 1


@pytest.mark.parametrize("seed", range(3))
def test_uneven_groups_still_share_languages_and_labels(seed):
    rows = noisy_rows(4000, seed=7)
    sizes = Counter(row.pair.query for row in rows)
    assert max(sizes.values()) > 50  # else this test would be the one above
    for name, members in split_pairs(rows, seed=seed).items():
        share = DEFAULT_FRACTIONS[name]
        assert abs(len(members) - share * len(rows)) < 0.005 * len(rows)
        counts = Counter((row.pair.language, row.label) for row in members)
        for stratum, total in Counter((row.pair.language, row.label) for row in rows).items():
            assert abs(counts[stratum] / total - share) < 0.03


def test_many_rare_languages_do_not_starve_the_small_splits():
    rows = [pair(f"q{i}", i % 2, f"l{i // 2 % 40}", i) for i in range(360)]
    for name, members in split_pairs(rows, seed=0).items():
        assert abs(len(members) / len(rows) - DEFAULT_FRACTIONS[name]) < 0.025


def test_large_groups_are_not_all_in_train():
    rows = [pair(f"head {i}", 1, "en") for i in range(60) for _ in range(10)]
    rows += [pair(f"tail {i}", 1, "en") for i in range(600)]
    for name, members in split_pairs(rows, seed=0).items():
        heads = {row.pair.query for row in members if row.pair.query.startswith("head")}
        assert len(heads) == 60 * DEFAULT_FRACTIONS[name]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.8, "dev": 0.1}, "train, dev sum to 0.9; expected 1"),
        ({"train": 1.2, "dev": -0.2}, "split 'dev' is -0.2; expected a number above 0"),
        ({"train": 1.0, "dev": 0.0}, "split 'dev' is 0.0"),
        ({"train": math.nan, "dev": 0.5}, "split 'train' is nan"),
        ({}, "sum to 0; expected 1"),
    ],
)
def test_fractions_that_are_no_shares_are_refused(fractions, message):
    with pytest.raises(InputError, match=message):
        split_pairs(noisy_rows(50, seed=0), fractions=fractions, seed=0)


@pytest.mark.parametrize(
    ("fractions", "languages", "message"),
    [
        (THIRDS, ["sw"], "'sw' is not in the rows; expected one of de, en, fr, ja"),
        ({"train": 1.0}, ["de"], "expected 'train' and another"),
        ({"fit": 0.5, "dev": 0.5}, ["de"], "splits are fit, dev; expected 'train'"),
    ],
)
def test_languages_that_cannot_be_held_out_are_refused(fractions, languages, message):
    with pytest.raises(InputError, match=message):
        split_pairs(noisy_rows(50, seed=0), fractions=fractions, seed=0, held_out_languages=languages)


def test_too_few_queries_are_refused_rather_than_leaving_a_split_empty():
    rows = [pair("one"), pair("ONE"), pair("two")]
    with pytest.raises(InputError, match="gets no row of 2 different queries"):
        split_pairs(rows, seed=0)


def test_leaks_name_each_shared_query_once():
    a = [pair("Red  Shoe"), pair("red shoe"), pair("hat"), pair("Straße")]
    assert leaks(a, [pair(" RED shoe"), pair("STRASSE"), pair("hats")]) == ["Red  Shoe", "Straße"]
    assert leaks(a, [pair("boot")]) == []


def test_summary_counts_rows_queries_labels_and_languages():
    rows = [pair("a", 1, "en"), pair("A", 0, "fr"), pair("b", 1, "en"), pair("c", 1, "de")]
    [summary, empty] = summarize({"train": rows, "dev": []})
    assert (summary.rows, summary.queries, summary.positive_share) == (4, 3, 0.75)
    assert summary.languages == {"de": 1, "en": 2, "fr": 1}
    assert (empty.rows, math.isnan(empty.positive_share)) == (0, True)


@given(
    st.lists(
        st.builds(
            LabeledPair,
            st.builds(
                lambda query, candidate, language: Pair(f"{query}x", f"x{candidate}", language),
                any_text,
                any_text,
                st.sampled_from(["unk", "vi", "en"]),
            ),
            st.sampled_from([0, 1]),
            st.from_regex(r"[0-9]{1,20}|[a-z]\S{0,5}", fullmatch=True),
            st.dictionaries(any_text.map("x{}".format), json_values, max_size=3),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(list(Task)),
)
def test_written_rows_come_back_equal(tmp_path_factory, rows, task):
    path = tmp_path_factory.mktemp("round") / "a.txt"
    write_pairs(path, rows, task)
    assert read_pairs(path, task).rows == rows


def test_written_line_is_an_analyticup_line(tmp_path):
    write_pairs(tmp_path / "a.txt", [pair("café", 1, "fr", 7, relevance=2.5)], Task.QI)
    expected = (
        '{"id": 7, "task": "QI", "language": "fr", "origin_query": "café", "item_title": "a category", "label": 1, '
    )
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == expected + '"relevance": 2.5}\n'


def test_numbers_that_json_lacks_are_written_as_null(tmp_path):
    write_pairs(tmp_path / "a.txt", [pair("a", score=math.nan, nested={"best": [math.inf, 1.5]})], Task.QC)
    [row] = read_pairs(tmp_path / "a.txt", Task.QC).rows
    assert row.extra == {"score": None, "nested": {"best": [None, 1.5]}}


def test_half_a_surrogate_pair_in_an_extra_comes_back(tmp_path):
    rows = [pair("a", note="\ud800")]
    write_pairs(tmp_path / "a.txt", rows, Task.QC)
    assert read_pairs(tmp_path / "a.txt", Task.QC).rows == rows


@pytest.mark.parametrize("number", ["007", "12345678901234567890", "9" * 5000, "²", "-1", "1.0"])
def test_id_that_a_number_would_change_is_written_as_text(tmp_path, number):
    write_pairs(tmp_path / "a.txt", [pair("a", number=number)], Task.QC)
    assert f'"id": "{number}"' in (tmp_path / "a.txt").read_text(encoding="utf-8")


def test_file_is_replaced_not_rewritten(tmp_path):
    path = tmp_path / "a.txt"
    write_pairs(path, [pair("old")], Task.QC)
    with path.open(encoding="utf-8") as old:
        write_pairs(path, [pair("new")], Task.QC)
        assert '"old"' in old.read()
    assert '"new"' in path.read_text(encoding="utf-8")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_pairs(path, [pair("old")], Task.QC)
    before = path.read_bytes()
    with pytest.raises(InputError, match="extra 'label' has the name of a field"):
        write_pairs(path, [pair("new"), LabeledPair(Pair("a", "b"), 1, "2", {"label": 0})], Task.QC)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/a\.txt: cannot be written: .*file is no folder"):
        write_pairs(tmp_path / "file" / "a.txt", [pair("a")], Task.QC)


@pytest.mark.parametrize(
    ("row_id", "value"),
    [("7", 7), ("0", 0), ("1" * 15, int("1" * 15)), *[(text, text) for text in ("007", "1" * 16, "-1", "٣", "a7", "")]],
)
def test_only_plain_whole_numbers_of_up_to_15_digits_are_json_numbers(row_id, value):
    assert json_id(row_id) == value
