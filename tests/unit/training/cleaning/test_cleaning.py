import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from relevance.text.formatting import PairFormat, find_separator, path_levels
from tests import SHARED_DATA
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import clean
from training.data.dataset import read_pairs
from training.data.extras import own_ids, source_ids
from training.data.groups import linked_groups
from training.data.splits import write_pairs
from training.data.votes.contradictions import Contradictions
from training.text.languages import Outcome, check_tags

NO_TAGS = CleaningOptions(tags=Tags.OFF)


def row(
    query: str = "red shoes", candidate: str = "shoes,boots", label: int = 1, language: str = "en", row_id: str = "1"
) -> LabeledPair:
    return LabeledPair(Pair(query, candidate, language), label, row_id)


@given(st.text(max_size=30))
def test_category_path_keeps_its_levels(path: str) -> None:
    [cleaned], _ = clean([row(candidate=path)], Task.QC, NO_TAGS)
    separator = find_separator([path])
    assert len(path_levels(cleaned.pair.candidate, separator)) == len(path_levels(path, separator))


def test_levels_are_those_of_the_separator_that_the_paths_have() -> None:
    paths = ["Home > Cups&#44;Mugs", "Home > 5\uff1e3 parts", "Home > Lamps"]  # an encoded comma, a full-width >
    rows = [row(query=path, candidate=path, row_id=path) for path in paths]
    found = [each.pair.candidate for each in clean(rows, Task.QC, NO_TAGS)[0]]
    assert found == ["Home > Cups,Mugs", paths[1], paths[2]]


@pytest.mark.parametrize("task", Task)
def test_promotions_and_stuttered_words_are_left_to_the_format(task: Task) -> None:
    rows = [row("free shipping shoes", "shoes, hot sale, phone case cover phone case cover")]
    assert clean(rows, task, NO_TAGS)[0] == rows


WORDS = st.sampled_from(
    [
        "free",
        "Shipping",
        "2024",
        "new",
        "靴",
        "送料無料",
        "red red",
        "&amp;",
        "4 in. x",
        "(",
        "【】",
        "black",
        "|",
        "! ",
        "free shipping",
    ]
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=7), st.integers(0, 1)), max_size=8), st.sampled_from(Task)
)
def test_cleaning_twice_equals_once_and_keeps_every_title(titles: list[tuple[list[str], int]], task: Task) -> None:
    rows = [row(candidate=" ".join(words), label=label, row_id=str(i)) for i, (words, label) in enumerate(titles)]
    for action in Contradictions:
        options = CleaningOptions(tags=Tags.OFF, contradictions=action)
        once, report = clean(rows, task, options)
        assert clean(once, task, options)[0] == once
        assert all(r.pair.candidate.strip() for r in once)
        assert report.rows_out == len(once)


@given(st.lists(WORDS, min_size=1, max_size=7), st.sampled_from(Task))
def test_a_cleaned_text_reads_as_the_text_that_it_was_made_of(words: list[str], task: Task) -> None:
    before = row(" ".join(words), " ".join(words[::-1]))
    [after], _ = clean([before], task, NO_TAGS)
    assert PairFormat().texts(task, after.pair) == PairFormat().texts(task, before.pair)


def test_repeated_rows_become_one_and_the_first_stays() -> None:
    rows = [row(row_id="1"), row("Red  Shoes", row_id="2"), row("hat", label=0, row_id="3"), row(language="de")]
    left, report = clean(rows, Task.QC, NO_TAGS)
    assert [r.pair.language for r in left] == ["en", "en", "de"]
    assert left[0].extra == {"label_share": 1.0, "label_votes": 2, "merged_ids": ["2"]}
    assert left[1:] == rows[2:]
    assert (report.votes.merged_rows, report.votes.voted_pairs, report.votes.votes) == (1, 1, 2)


def test_one_vote_against_five_is_kept_as_a_share() -> None:
    rows = [row("usb cable", "electronics,cables", int(at != 2), row_id=str(at)) for at in range(6)]
    [left], report = clean(rows, Task.QC, NO_TAGS)
    assert (left.label, left.extra["label_share"], left.extra["label_votes"]) == (1, 5 / 6, 6)
    assert "label_weight" not in left.extra  # the share says how far the votes agree
    assert left.extra["merged_ids"] == ["1", "2", "3", "4", "5"]
    assert (report.votes.contradictory_pairs, report.votes.contradictory_votes, report.votes.ties) == (1, 6, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_tie_is_a_one_with_a_share_of_half_in_any_order(order: tuple[int, int]) -> None:
    [left], _ = clean([row(label=label) for label in order], Task.QC, NO_TAGS)
    assert (left.label, left.extra["label_share"], "label_weight" in left.extra) == (1, 0.5, False)


def test_label_weights_count_as_parts_of_votes() -> None:
    rows = [replace(row(label=1), extra={"label_weight": "0.25"}), row(label=0), row(label=0)]
    [left], _ = clean(rows, Task.QC, NO_TAGS)
    assert left.label == 0
    assert left.extra["label_share"] == pytest.approx(0.25 / 2.25)
    assert left.extra["label_weight"] == pytest.approx(2.25 / 3)


def test_a_single_vote_with_a_share_contradicts_nothing() -> None:
    graded = replace(row(label=1), extra={"label_share": 0.7})
    for action in Contradictions:
        options = CleaningOptions(tags=Tags.OFF, contradictions=action)
        left, report = clean([graded], Task.QC, options)
        assert left == [graded]
        assert report.votes.contradictory_pairs == 0


def test_votes_without_any_weight_are_kept() -> None:
    rows = [replace(row(label=label), extra={"label_weight": 0}) for label in (1, 1, 0)]
    [left], _ = clean(rows, Task.QC, NO_TAGS)
    assert (left.extra["label_share"], left.extra["label_votes"], left.extra["label_weight"]) == (2 / 3, 3, 0)


VOTES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.sampled_from([None, 0.25, 0.5])), max_size=12)


@given(VOTES, VOTES)
def test_votes_of_votes_are_those_of_all_rows(first: list, second: list) -> None:
    def rows(votes: list, start: int) -> list[LabeledPair]:
        return [
            LabeledPair(Pair(query, "a,b"), label, str(start + at), {} if weight is None else {"label_weight": weight})
            for at, (query, label, weight) in enumerate(votes)
        ]

    def kept(found: list[LabeledPair]) -> list:
        numbers = ("label_share", "label_votes", "label_weight")
        return sorted((r.pair.query, r.label, *(round(r.extra.get(name, -1), 6) for name in numbers)) for r in found)

    parts = [clean(rows(votes, start), Task.QC, NO_TAGS)[0] for votes, start in ((first, 0), (second, 100))]
    at_once, _ = clean([*rows(first, 0), *rows(second, 100)], Task.QC, NO_TAGS)
    twice, _ = clean([*parts[0], *parts[1]], Task.QC, NO_TAGS)
    assert kept(twice) == kept(at_once)
    assert clean(at_once, Task.QC, NO_TAGS)[0] == at_once
    assert {name for r in twice for name in own_ids(r)} == {r.id for r in [*rows(first, 0), *rows(second, 100)]}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_votes_come_back_from_every_format(tmp_path: Path, suffix: str) -> None:
    rows = [row(label=int(at > 0), row_id=str(at)) for at in range(3)] + [row("hat", row_id="9")]
    left, _ = clean(rows, Task.QC, NO_TAGS)
    write_pairs(tmp_path / "rows.jsonl", left, Task.QC)
    records = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    if suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(records[0]), restval="")
            writer.writeheader()
            writer.writerows(records)
    read = read_pairs(path, Task.QC).rows
    again, report = clean([*read, row(label=0, row_id="7")], Task.QC, NO_TAGS)
    assert (again[0].extra["label_votes"], again[0].extra["label_share"]) == (4, 0.5)
    assert own_ids(again[0]) == ["0", "1", "2", "7"]
    assert report.votes.merged_rows == 1


def test_the_original_row_stays_and_the_sources_of_the_others_are_kept() -> None:
    made = [replace(row(row_id=f"{at}~en"), extra={"source": "translation", "source_id": at}) for at in (7, 8)]
    [left], _ = clean([*made, row(row_id="3")], Task.QC, NO_TAGS)
    assert left.id == "3"
    assert "source" not in left.extra
    assert source_ids(left) == ["7", "8"]
    linked = linked_groups([left, row("schuh", row_id="7"), row("zapato", row_id="8"), row("hat", row_id="9")])
    assert linked == ["red shoes", "red shoes", "red shoes", "hat"]


def test_votes_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match=r"1 rows have a label_votes out of range .first: id '1', 2.5."):
        clean([replace(row(), extra={"label_votes": 2.5})], Task.QC, NO_TAGS)


@pytest.mark.parametrize(
    ("action", "left"),
    [
        (Contradictions.MERGE, ["1", "4", "6"]),
        (Contradictions.DROP, ["6"]),
        (Contradictions.MAJORITY, ["1", "6"]),
    ],
)
def test_contradictions_are_reported_and_settled_as_asked(action: Contradictions, left: list[str]) -> None:
    twice = [row(row_id="1"), row(row_id="2"), row(label=0, row_id="3")]
    tie = [row("bag", row_id="4"), row("BAG", label=0, row_id="5")]
    options = CleaningOptions(tags=Tags.OFF, contradictions=action)
    kept, report = clean([*twice, *tie, row("hat", row_id="6")], Task.QC, options)
    assert [r.id for r in kept] == left
    both = report.votes
    assert (both.contradictory_pairs, both.contradictory_votes, both.ties) == (2, 5, 1)
    assert (both.examples[0].ids, both.examples[0].positive) == (("1", "2", "3"), 2)


def test_report_counts_what_each_step_changed() -> None:
    rows = [row("wide　shoes", "boots &amp; more"), row("hat", "plain title")]
    _, report = clean(rows, Task.QI, NO_TAGS)
    assert (report.changed_queries, report.changed_candidates) == (1, 1)
    assert report.steps["other_spaces"].queries == 1
    assert report.steps["entities"].candidates == 1
    assert report.steps["entities"].examples == (("boots &amp; more", "boots & more"),)
    assert report.steps["controls"].queries == 0


def test_single_language_needs_no_detector() -> None:
    verdicts = check_tags([("hammer drill", "en"), ("молоток", "en"), ("18 x 24", "en")])
    outcomes = {query: verdict.outcome for (query, _), verdict in verdicts.items()}
    assert outcomes == {"hammer drill": Outcome.UNASKED, "молоток": Outcome.DISAGREES, "18 x 24": Outcome.NO_WORDS}


TAGGED = [
    ("wedding dress for women with long sleeves", "pt"),
    ("vestido de noiva com manga comprida", "pt"),
    ("sapatos femininos de couro", "pt"),
    ("kitchen table with four chairs", "en"),
    ("무선 이어폰", "es"),
    ("sk하이닉스 p31", "ko"),
    ("zapatillas para mujer", "es"),
    ("xqzt", "es"),
    ("nike 270", "es"),
    ("nike", "en"),
    ("nike", "pt"),
    ("124008", "en"),
    ("自転車", "ja"),
    ("bicicleta de montaña para niños", "unk"),
]


def test_tags_are_judged_only_where_the_words_allow() -> None:
    pytest.importorskip("lingua")
    verdicts = check_tags(TAGGED)
    wrong = {pair: verdict.detected for pair, verdict in verdicts.items() if verdict.outcome is Outcome.DISAGREES}
    assert wrong == {TAGGED[0]: "en", ("무선 이어폰", "es"): "ko"}
    assert verdicts["nike 270", "es"].outcome is Outcome.NAMES_ONLY
    assert verdicts["124008", "en"].outcome is Outcome.NO_WORDS
    assert verdicts["xqzt", "es"].outcome is Outcome.UNSURE
    assert verdicts["sk하이닉스 p31", "ko"].outcome is verdicts["自転車", "ja"].outcome is Outcome.AGREES


@pytest.mark.parametrize(
    ("tags", "languages"),
    [
        (Tags.OFF, ["pt", "es", "unk"]),
        (Tags.REPORT, ["pt", "es", "unk"]),
        (Tags.UNK, ["unk", "unk", "unk"]),
        (Tags.FIX, ["en", "ko", "es"]),
    ],
)
def test_wrong_tags_are_reported_blanked_or_fixed(tags: Tags, languages: list[str]) -> None:
    pytest.importorskip("lingua")
    rows = [row(query, language=tag, row_id=str(i)) for i, (query, tag) in enumerate(TAGGED)]
    options = CleaningOptions(tags=tags)
    cleaned, report = clean(rows, Task.QC, options)
    assert [cleaned[i].pair.language for i in (0, 4, 13)] == languages
    assert clean(cleaned, Task.QC, options)[0] == cleaned
    assert (report.tags is None) == (tags is Tags.OFF)
    if tags in (Tags.UNK, Tags.FIX):
        assert cleaned[0].extra == {"tagged_language": "pt"}


def test_language_that_no_detector_knows_is_refused() -> None:
    pytest.importorskip("lingua")
    with pytest.raises(ConfigError, match="languages xx: unknown to the detector"):
        check_tags([("red shoes", "en")], further_languages=["xx"])


@pytest.mark.real_data
def test_each_claimed_step_changes_real_titles() -> None:
    from training.data.dataset import read_pairs

    file = SHARED_DATA / "home_depot_qi" / "train_QI.txt"
    if not file.exists():
        pytest.skip("the shared data is not here")
    rows = read_pairs(file, Task.QI).rows
    _, report = clean(rows, Task.QI, NO_TAGS)
    changed = {name: step.candidates + step.queries for name, step in report.steps.items()}
    assert all(changed[name] > 0 for name in ("entities", "spaces")), changed
