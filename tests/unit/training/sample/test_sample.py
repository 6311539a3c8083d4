import json
import shutil
import unicodedata
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import pytest

from relevance.errors import ConfigError, InputError
from relevance.tasks import ANALYTICUP_TASKS as TASKS
from relevance.tasks import Task, query_key
from training.data.dataset import read_pairs
from training.sample.generate import FLIPPED, NOTE_FILE, generate, write_sample
from training.sample.plan import SPLITS, SampleSettings, rows_by_language, train_languages
from training.sample.shop import LANGUAGES, SHOWCASE_CANDIDATES, load_shop, showcase

SCRIPTS = {
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "th": ("THAI",),
    "ar": ("ARABIC",),
}
UNSEEN = {"de", "it", "pl", "ar", "vi", "id"}


@pytest.fixture(scope="module")
def shop():
    return load_shop()


@pytest.fixture(scope="module")
def logs(shop):
    return {task: generate(task, SampleSettings(), shop) for task in TASKS}


@pytest.fixture
def copied(tmp_path):
    """A copy of the packaged data files, to spoil."""
    folder = tmp_path / "shop"
    shutil.copytree(Path(str(files("training.sample"))), folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder


def edit(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def scripts_of(text):
    return {unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()}


def languages(rows):
    return {row.pair.language for row in rows}


# The shop


def test_shop_has_twelve_tops_with_seven_leaves_or_more_each(shop):
    assert len(shop.leaves) >= 80
    assert len(shop.tops) == 12
    assert min(Counter(leaf.top for leaf in shop.leaves).values()) >= 6


def test_every_leaf_and_attribute_has_words_in_all_thirteen_languages(shop):
    assert len(LANGUAGES) == 13
    for leaf in shop.leaves:
        assert all(leaf.words[language] for language in LANGUAGES), leaf.path
    for attribute in shop.attributes:
        assert all(attribute.words[language] for language in LANGUAGES), attribute


@pytest.mark.parametrize("language", SCRIPTS)
def test_plain_names_and_attributes_are_in_the_native_script(shop, language):
    words = [leaf.words[language][0] for leaf in shop.leaves] + [a.words[language] for a in shop.attributes]
    assert [word for word in words if not scripts_of(word).intersection(SCRIPTS[language])] == []


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - set(SCRIPTS)))
def test_words_of_latin_languages_are_latin(shop, language):
    words = [word for leaf in shop.leaves for word in leaf.words[language]]
    assert [word for word in words if scripts_of(word) - {"LATIN"}] == []


def test_every_leaf_is_sold_by_a_brand_and_no_brand_name_is_a_word(shop):
    assert [leaf.path for leaf in shop.leaves if not any(brand.sells(leaf) for brand in shop.brands)] == []
    words = {query_key(word) for leaf in shop.leaves for cell in leaf.words.values() for word in cell}
    assert words.isdisjoint(query_key(brand.name) for brand in shop.brands)


def test_faults_of_all_files_are_reported_together(copied):
    shoes = copied / "categories" / "09-shoes.tsv"
    lines = shoes.read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].rsplit("\t", 1)[0]  # the last column is gone
    cells = lines[2].split("\t")
    cells[LANGUAGES.index("fr") + 1] = ""
    lines[2] = "\t".join(cells)
    shoes.write_text("\n".join(lines) + "\n", encoding="utf-8")
    edit(copied / "brands.tsv", "Quenlowick\tfurniture", "Quenlowick\tweapons")
    with pytest.raises(InputError) as caught:
        load_shop(copied)
    message = str(caught.value)
    assert "3 faults" in message
    assert "09-shoes.tsv line 2: (line) = " in message
    assert "expected 14 columns, found 13" in message
    assert "09-shoes.tsv line 3: fr = ''; expected text" in message
    assert (
        "brands.tsv line 5: categories = 'weapons'; expected the beginning or the whole of a category path" in message
    )


def test_word_of_two_leaves_is_a_fault_that_names_both_places(copied):
    edit(copied / "categories" / "02-furniture.tsv", "|couches|", "|Curtains|")
    with pytest.raises(InputError, match=r"02-furniture.tsv line 3: en = 'Curtains'.*01-home-garden.tsv line 6"):
        load_shop(copied)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("furniture,bar furniture,bar stools", "garden,bar furniture,bar stools", "the first level 'furniture'"),
        ("furniture,bar furniture,bar stools", "furniture", "2 to 4 levels, found 1"),
        ("furniture,bar furniture,bar stools", ",", "2 to 4 levels"),
        ("furniture,bar furniture,bar stools", "furniture,Bar furniture,bar stools", "lower-case"),
        ("furniture,bar furniture,bar stools", "furniture,living room furniture,sofas", "a path not yet in"),
        ("|counter stools|", "|counter stools||", "none of them empty"),
        ("category_path\ten\tes", "category_path\tes\ten", "line 1: header"),
    ],
)
def test_fault_in_a_category_file_names_what_was_expected(copied, old, new, expected):
    edit(copied / "categories" / "02-furniture.tsv", old, new)
    with pytest.raises(InputError, match=expected):
        load_shop(copied)


def test_folder_without_categories_or_in_another_encoding_is_an_input_error(copied):
    shutil.rmtree(copied / "categories")
    (copied / "brands.tsv").write_bytes("brand\tcategories\nÖ\tshoes\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"holds no \.tsv file[\s\S]*brands\.tsv: cannot be read"):
        load_shop(copied)


# The showcase


def test_showcase_has_two_queries_a_language_of_different_leaves(shop):
    queries = showcase()
    assert Counter(query.language for query in queries) == dict.fromkeys(LANGUAGES, 2)
    assert len({query.category_path for query in queries}) == len(queries)
    assert {query.category_path for query in queries} <= {leaf.path for leaf in shop.leaves}


def test_showcase_candidates_are_ten_with_one_of_the_same_top_and_the_rest_spread(shop):
    top = {leaf.path: leaf.top for leaf in shop.leaves}
    for query in showcase():
        assert len(set(query.candidates)) == SHOWCASE_CANDIDATES == 10
        assert query.category_path in query.candidates
        tops = Counter(top[path] for path in query.candidates)
        assert tops.pop(top[query.category_path]) == 2
        assert set(tops.values()) == {1}


def test_right_place_in_showcase_varies_but_not_between_calls():
    places = [query.candidates.index(query.category_path) for query in showcase()]
    assert len(set(places)) > 4
    assert showcase() == showcase()


def test_showcase_faults_are_reported_together(copied):
    edit(copied / "showcase.tsv", "en\tbike helmet", "xx\tbike helmet")
    edit(copied / "showcase.tsv", "shoes,boots,hiking boots", "shoes,boots")
    with pytest.raises(InputError, match=r"2 faults[\s\S]*language = 'xx'[\s\S]*category_path = 'shoes,boots'"):
        showcase(copied)


# The generated rows


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_gives_same_rows_and_another_seed_others(shop, logs, task):
    assert generate(task, SampleSettings(), shop) == logs[task]
    assert generate(task, SampleSettings(seed=1), shop) != logs[task]


@pytest.mark.parametrize("task", TASKS)
def test_no_query_is_in_two_splits_even_in_full_width(logs, task):
    splits = defaultdict(set)
    for split, rows in logs[task].items():
        for row in rows:
            splits[query_key(row.pair.query)].add(split)
            splits[query_key(unicodedata.normalize("NFKC", row.pair.query))].add(split)
    assert [query for query, places in splits.items() if len(places) > 1] == []


@pytest.mark.parametrize("task", TASKS)
def test_no_pair_is_there_twice(logs, task):
    for rows in logs[task].values():
        assert len({(query_key(row.pair.query), row.pair.candidate) for row in rows}) == len(rows)


def test_absent_languages_are_in_dev_and_test_alone(logs):
    for task in TASKS:
        absent = UNSEEN | ({"th"} if task is Task.QC else set())
        assert languages(logs[task]["train"]) == set(LANGUAGES) - absent
        assert languages(logs[task]["dev"]) == languages(logs[task]["test"]) == set(LANGUAGES)


def test_train_has_no_word_of_an_absent_language(shop, logs):
    for task in TASKS:
        seen = train_languages(task)
        known = {query_key(word) for leaf in shop.leaves for language in seen for word in leaf.words[language]}
        words = {query_key(w) for leaf in shop.leaves for code in set(LANGUAGES) - set(seen) for w in leaf.words[code]}
        train = logs[task]["train"]
        assert {query_key(row.pair.query) for row in train}.isdisjoint(words - known)
        foreign = {"ARABIC"} | ({"THAI"} if task is Task.QC else set())
        assert not any(scripts_of(row.pair.query + row.pair.candidate) & foreign for row in train)


@pytest.mark.parametrize("task", TASKS)
def test_large_languages_outnumber_small_ones_in_train(logs, task):
    counts = Counter(row.pair.language for row in logs[task]["train"])
    assert min(counts[code] for code in ("en", "es", "fr")) > 1.5 * max(counts[code] for code in ("ko", "pt", "ja"))


@pytest.mark.parametrize("task", TASKS)
def test_exactly_the_asked_share_of_labels_is_flipped_and_marked(logs, task):
    for split, rows in logs[task].items():
        flipped = [row for row in rows if row.extra["noise"] == FLIPPED]
        assert len(flipped) == round(SampleSettings().flip_rate(split) * len(rows))
        assert flipped == [row for row in rows if row.label != row.extra["true_label"]]
        assert {row.extra["noise"] for row in rows} == {"", FLIPPED}


@pytest.mark.parametrize(("task", "share"), [(Task.QC, 0.68), (Task.QI, 0.62)])
def test_true_positive_share_is_as_planned_in_every_split_and_language(logs, task, share):
    for rows in logs[task].values():
        truths = defaultdict(list)
        for row in rows:
            truths[row.pair.language].append(row.extra["true_label"])
        assert sum(map(sum, truths.values())) / len(rows) == pytest.approx(share, abs=0.01)
        assert all(sum(found) / len(found) == pytest.approx(share, abs=0.03) for found in truths.values())


def test_every_leaf_is_a_positive_in_train_in_all_seen_languages_but_few(logs, shop):
    found = defaultdict(set)
    for row in logs[Task.QC]["train"]:
        if row.extra["true_label"]:
            found[row.pair.candidate].add(row.pair.language)
    assert min(len(found[leaf.path]) for leaf in shop.leaves) >= 5


@pytest.mark.parametrize("task", TASKS)
def test_bare_plain_names_are_train_queries(shop, logs, task):
    queries = {query_key(row.pair.query) for row in logs[task]["train"]}
    assert "コーヒーカップ" in queries
    for language in train_languages(task):
        bare = [query_key(leaf.words[language][0]) in queries for leaf in shop.leaves]
        assert sum(bare) / len(bare) > 0.9


def test_qc_truth_follows_the_words_of_the_leaf(shop, logs):
    leaf_of = {(code, query_key(w)): leaf.path for leaf in shop.leaves for code in LANGUAGES for w in leaf.words[code]}
    checked = 0
    for row in (row for rows in logs[Task.QC].values() for row in rows):
        right = leaf_of.get((row.pair.language, query_key(row.pair.query)))
        if right:
            checked += 1
            assert row.extra["true_label"] == (row.pair.candidate == right)
    assert checked > 1000


def test_brand_only_queries_are_right_for_what_the_brand_sells_alone(shop, logs):
    brands = {query_key(brand.name): brand for brand in shop.brands}
    leaves = {leaf.path: leaf for leaf in shop.leaves}
    labels = []
    for row in logs[Task.QC]["train"]:
        brand = brands.get(query_key(row.pair.query))
        if brand:
            labels.append(row.extra["true_label"])
            assert row.extra["true_label"] == brand.sells(leaves[row.pair.candidate])
    assert set(labels) == {0, 1}


def test_half_of_the_qc_negatives_have_the_right_top_level(shop, logs):
    top = {leaf.path: leaf.top for leaf in shop.leaves}
    leaf_of = {(code, query_key(w)): leaf.path for leaf in shop.leaves for code in LANGUAGES for w in leaf.words[code]}
    close = []
    for row in logs[Task.QC]["train"]:
        right = leaf_of.get((row.pair.language, query_key(row.pair.query)))
        if right and not row.extra["true_label"]:
            close.append(top[right] == top[row.pair.candidate])
    assert 0.4 < sum(close) / len(close) < 0.7


def test_slips_and_odd_characters_are_only_where_they_belong(logs):
    odd = {"\u00a0", "\u3000"}
    for rows in logs[Task.QC].values():
        for row in rows:
            if odd & set(row.pair.query) or any("\uff01" <= c <= "\uff5e" for c in row.pair.query):
                assert row.pair.language in {"ja", "ko"}
    queries = [row.pair.query for row in logs[Task.QC]["train"]]
    assert sum(bool(odd & set(query)) for query in queries) > 5
    assert any("\uff10" <= c <= "\uff5e" for query in queries for c in query)


def test_shared_fragments_do_not_give_qi_labels_away(shop, logs):
    # A title can have the query's brand and be wrong all the same.
    names = [brand.name.lower() for brand in shop.brands]
    same = [
        row.extra["true_label"]
        for row in logs[Task.QI]["train"]
        if any(n in row.pair.query.lower() and n in row.pair.candidate.lower() for n in names)
    ]
    assert 0.05 < same.count(0) / len(same) < 0.5


# Files


def test_written_files_are_analyticup_rows_that_the_reader_takes(tmp_path):
    counts = write_sample(tmp_path / "sample", seed=3, scale=0.1)
    assert {path.name for path in (tmp_path / "sample").iterdir()} == {*counts, NOTE_FILE}
    for task in TASKS:
        for split in SPLITS:
            name = f"{split}_{task.upper()}.txt"
            found = read_pairs(tmp_path / "sample" / name, task)
            assert len(found.rows) == counts[name] == sum(rows_by_language(task, split, 0.1).values())
    row = json.loads((tmp_path / "sample" / "dev_QC.txt").read_text(encoding="utf-8").splitlines()[0])
    fields = "id task language origin_query category_path label true_label noise synthetic"
    assert list(row) == fields.split()
    assert row["id"] == 1
    assert row["task"] == "QC"
    assert row["synthetic"] is True


def test_vietnamese_is_vn_in_qi_files_and_vi_in_qc_files(tmp_path):
    write_sample(tmp_path / "sample", scale=0.1)
    found = {}
    for task in TASKS:
        lines = (tmp_path / "sample" / f"dev_{task.upper()}.txt").read_text(encoding="utf-8").splitlines()
        found[task] = {json.loads(line)["language"] for line in lines} & {"vi", "vn"}
    assert found == {Task.QC: {"vi"}, Task.QI: {"vn"}}


def test_same_seed_writes_the_same_bytes_over_an_older_sample(tmp_path):
    write_sample(tmp_path / "a", seed=1, scale=0.05)
    write_sample(tmp_path / "a", seed=2, scale=0.05)
    write_sample(tmp_path / "b", seed=2, scale=0.05)
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        write_sample(tmp_path, scale=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "wrong",
    [{"scale": 0}, {"scale": float("nan")}, {"scale": 1000}, {"train_flip_rate": 0.5}, {"held_out_flip_rate": -1}],
)
def test_settings_out_of_range_are_config_errors(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SampleSettings(**wrong)


def test_smallest_scale_still_has_all_languages_in_dev(shop):
    rows = generate(Task.QI, SampleSettings(scale=0.05), shop)
    assert languages(rows["dev"]) == set(LANGUAGES)
