"""The stage: which rows are made, of which, how many of each label, and that nothing leaks."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.data.dataset import read_pairs
from training.data.splits import leaks, split_pairs, write_pairs
from training.endpoint.budget import Cost
from training.endpoint.errors import BudgetSpentError
from training.translation.augment import augment
from training.translation.backends.memory import MemoryTranslator
from training.translation.backends.memory_files import Unit
from training.translation.chain import TranslatorChain
from training.translation.options import GateOptions, TranslationOptions

PLAIN = GateOptions(language=False, similarity=None)
WORDS = ["red", "blue", "green", "black", "white", "gold", "pink", "grey", "brown", "navy", "lime", "teal"]


class Prefixing:
    """Writes the target language in front of a text; stops when `room` texts were asked for."""

    name, key, batch_size, cost = "prefixing", None, 8, Cost()

    def __init__(self, room=10**9):
        self.room = room

    def supports(self, source, target):
        return target != "sw"

    def translate(self, texts, source, target):
        self.room -= len(texts)
        if self.room < 0:
            raise BudgetSpentError("budget spent", {0: f"{target} {texts[0]}"})
        return [f"{target} {text}" for text in texts]


def row(number, language="en", label=1, query=None, **extra):
    query = query or f"{WORDS[number % 12]} {WORDS[number // 12 % 12]} cup {language}"
    return LabeledPair(Pair(query, f"home,cups {number % 3}", language), label, str(number), extra)


ROWS = [row(n, language, int(n % 4 != 0)) for n, language in enumerate(["en"] * 60 + ["fr"] * 30 + ["ja"] * 10)]


def made(rows=ROWS, translator=None, held_out=(), **options):
    chosen = TranslationOptions(**{"targets": ("de",), "gates": PLAIN, **options})
    out, report = augment(rows, chosen, TranslatorChain([translator or Prefixing()]), held_out=held_out)
    assert out[: len(rows)] == list(rows)
    return out[len(rows) :], report


def test_only_the_query_is_translated_and_the_origin_is_told():
    (one,), _ = made([row(7, label=0, relevance=1.5)])
    assert one == LabeledPair(
        Pair("de grey red cup en", "home,cups 1", "de"),
        0,
        "7~de",
        {"relevance": 1.5, "source": "translation", "source_id": "7", "strategy": "prefixing", "source_language": "en"},
    )


def test_all_rows_of_both_labels_are_made_when_no_number_is_given():
    rows, report = made(targets=("de", "it"))
    assert Counter((r.pair.language, r.label) for r in rows) == {
        (target, label): count for target in ("de", "it") for label, count in ((1, 75), (0, 25))
    }
    assert [language.made for language in report.languages] == [100, 100]
    assert len({r.id for r in rows}) == 200


def test_the_class_balance_is_kept_or_set():
    for share, positive in ((None, 30), (0.5, 20)):
        rows, _ = made(rows_per_language=40, positive_share=share)
        assert len(rows) == 40
        assert sum(r.label for r in rows) == positive


@pytest.mark.parametrize(
    ("policy", "sources"),
    [
        ({"sources": "proportional"}, {"en": 24, "fr": 12, "ja": 4}),
        ({"sources": "all"}, {"en": 16, "fr": 14, "ja": 10}),
        ({"sources": "most_frequent"}, {"en": 40}),
        ({"sources": "one", "source_language": "fr"}, {"fr": 30}),
    ],
)
def test_source_policies(policy, sources):
    rows, report = made(rows_per_language=40, **policy)
    found = Counter(r.extra["source_language"] for r in rows)
    assert set(found) == set(sources)
    assert all(abs(found[language] - count) <= 2 for language, count in sources.items()), found
    assert report.languages[0].sources == found


def test_the_balance_is_kept_where_one_label_runs_out_and_the_shortage_is_told():
    rows, report = made(rows_per_language=80, positive_share=0.5)
    assert Counter(r.label for r in rows) == {1: 25, 0: 25}
    assert report.languages[0].short == 30
    assert report.languages[0].trimmed == 15


def test_further_rows_are_tried_until_the_number_is_reached():
    units = [Unit({"en": r.pair.query, "de": f"de {r.pair.query}"}) for r in ROWS[:60:3]]
    rows, report = made(ROWS[:60], MemoryTranslator(units), rows_per_language=12)
    one = report.languages[0]
    assert len(rows) == one.made == 12
    assert one.untranslated > 0
    assert one.tried == one.made + one.untranslated


def test_every_tried_row_is_accounted_for():
    units = [Unit({"en": r.pair.query, "de": r.pair.query if n % 3 else "eins"}) for n, r in enumerate(ROWS[:40])]
    rejections = []
    options = TranslationOptions(targets=("de",), gates=PLAIN)
    _, report = augment(ROWS, options, TranslatorChain([MemoryTranslator(units)]), on_rejected=rejections.append)
    one = report.languages[0]
    assert one.tried == one.made + one.untranslated + sum(one.rejected.values()) + one.trimmed
    assert Counter(r.reason for r in rejections) == one.rejected
    assert one.rejected["copy_through"] == 26
    assert one.rejected["duplicate"] == 13


def test_the_seed_decides_and_the_same_seed_decides_the_same():
    first, again, other = (made(rows_per_language=20, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_languages_that_dev_has_and_training_lacks_are_the_targets():
    dev = [row(900, language) for language in ("pl", "en", "it", "unk")]
    rows, _ = made(held_out=dev, targets=(), rows_per_language=5)
    assert {r.pair.language for r in rows} == {"it", "pl"}
    with pytest.raises(ConfigError, match="no language that training lacks"):
        made(held_out=ROWS, targets=())


def test_a_language_that_nothing_can_translate_is_named_before_any_work():
    translator = Prefixing()
    with pytest.raises(ConfigError, match=r"target language 'sw'.* from en, fr, ja"):
        made(translator=translator, targets=("de", "sw"))
    assert translator.room == 10**9


def test_rows_of_held_out_queries_stay_untranslated_and_their_queries_are_not_made():
    held_out = [row(901, query=ROWS[5].pair.query.upper()), row(902, "de", query=f"DE  {ROWS[9].pair.query}")]
    rows, report = made(held_out=held_out)
    assert {"5", "9"}.isdisjoint(r.extra["source_id"] for r in rows)
    assert report.source_held_out == 1
    assert report.rejected() == {"held_out": 1}


def test_a_translation_that_reads_as_a_held_out_query_is_not_made():
    rows, report = made([row(1, query="tom and jerry")], held_out=[row(9, "de", query="de tom and jerry")])
    assert (rows, report.languages[0].rejected) == ([], {"held_out": 1})
    rows, report = made([row(1, query="tom &amp; jerry\u200b")], held_out=[row(9, "de", query="de tom & jerry")])
    assert (rows, report.languages[0].rejected) == ([], {"held_out": 1})


def test_made_rows_are_not_translated_again_nor_made_twice():
    rows, _ = made(ROWS[:10])
    again, report = made([*ROWS[:10], *rows])
    assert again == []
    assert report.rejected() == {"duplicate": 10}


def test_repeated_ids_get_ids_of_their_own():
    rows, _ = made([row(1), LabeledPair(Pair("other cup", "x", "en"), 1, "1")])
    assert [r.id for r in rows] == ["1~de", "1~de.2"]


def test_a_spent_budget_ends_the_work_or_keeps_what_there_is():
    with pytest.raises(BudgetSpentError):
        made(translator=Prefixing(room=20))
    rows, report = made(translator=Prefixing(room=20), at_budget="keep", targets=("de", "it"))
    assert 0 < len(rows) < 100
    assert "budget spent" in report.stopped


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    queries=st.lists(st.text("ab ｂÁ", min_size=2, max_size=6).filter(str.strip), min_size=12, max_size=40),
)
def test_no_query_of_dev_comes_into_training_whatever_is_translated(seed, queries):
    """The translator maps queries onto one another, so that many translations are queries of the other split."""
    rows = [LabeledPair(Pair(q, "c", "en" if n % 2 else "de"), n % 2, str(n)) for n, q in enumerate(queries)]
    if len({query_key(q) for q in queries}) < 4:
        return
    parts = split_pairs(rows, fractions={"train": 0.5, "dev": 0.5}, seed=seed)
    units = [Unit({"en": a, "it": b, "pl": a.upper()}) for a, b in zip(queries, reversed(queries), strict=True)]
    units += [Unit({"de": a, "it": b.upper(), "pl": b}) for a, b in zip(queries, reversed(queries), strict=True)]
    free = GateOptions(language=False, similarity=None, copy_through=False, length_ratio=None, script=False)
    options = TranslationOptions(targets=("it", "pl"), gates=free, seed=seed)
    out, _ = augment(parts["train"], options, TranslatorChain([MemoryTranslator(units)]), held_out=parts["dev"])
    assert leaks(out, parts["dev"]) == []
    assert len({r.id for r in out}) == len(out)


def test_rows_come_back_from_a_file_as_they_went(tmp_path):
    rows, _ = made(ROWS[:6])
    write_pairs(tmp_path / "rows.jsonl", rows, Task.QC)
    assert read_pairs(tmp_path / "rows.jsonl", Task.QC).rows == rows


class Copying(Prefixing):
    """Leaves the first `copies` queries that it is asked for as they are: brand names."""

    def __init__(self, copies):
        super().__init__()
        self.left = {row.pair.query for row in ROWS[:copies]}

    def translate(self, texts, source, target):
        return [text if text in self.left else f"{target} {text}" for text in texts]


@pytest.mark.parametrize(("share", "copies"), [(0.1, 7), (0.0, 0), (0.2, 17), (False, 30), (1.0, 30)])
def test_copies_of_brand_names_are_capped_at_a_share_of_the_rows_made(share, copies):
    gates = GateOptions(language=False, copy_through=share)
    rows, report = made(translator=Copying(30), gates=gates)
    assert sum(r.pair.query in {row.pair.query for row in ROWS} for r in rows) == copies
    assert report.rejected() == ({"copy_through": 30 - copies} if copies < 30 else {})
    assert report.made == 70 + copies
    assert not share or copies <= share * report.made or share == 1


def test_other_rows_take_the_place_of_copies_beyond_their_share():
    rows, report = made(translator=Copying(30), rows_per_language=40, gates=GateOptions(language=False))
    assert report.made == 40
    assert sum(r.pair.query in {row.pair.query for row in ROWS} for r in rows) <= 4


def test_a_copy_that_its_language_has_already_is_a_duplicate():
    there = LabeledPair(replace(ROWS[0].pair, language="de"), 1, "900")
    _, report = made([*ROWS, there], translator=Copying(1))
    assert report.rejected() == {"duplicate": 1}
