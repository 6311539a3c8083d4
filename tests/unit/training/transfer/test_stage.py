"""Transfer: what the teacher is asked, which rows come of it, and what is kept out."""

import numpy as np
import pytest
from pydantic import ValidationError

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Pair, Task
from tests.unit.training.negatives.test_negatives import ENCODER, row
from training.transfer.options import TransferOptions
from training.transfer.stage import Sources, transfer
from training.translation.backends.memory_files import Unit

TITLES = [f"{color} {thing} {n}" for n in range(6) for color in ("red", "blue", "old") for thing in ("cup", "shoe")]
ROWS = [row("cup", title, int("cup" in title), str(n)) for n, title in enumerate(TITLES)]
UNITS = [
    Unit({"en": "red cup", "de": "rote tasse", "fr": "tasse rouge"}),
    Unit({"en": "blue shoe", "de": "blauer schuh"}),
    Unit({"en": "old lamp", "pl": "stara lampa"}),
]


class Teacher:
    """Says yes, with logit 2, where a title has the last word of the query, else -2; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, rows):
        self.asked += [each.pair for each in rows]
        return np.array([2.0 if each.pair.query.split()[-1] in each.pair.candidate.split() else -2.0 for each in rows])


def run(units=UNITS, rows=ROWS, held_out=(), candidates=(), **options):
    teacher = Teacher()
    options = TransferOptions(**{"targets": ("de", "fr")} | options)
    made, report = transfer(rows, Task.QI, Sources(units, candidates, held_out), options, ENCODER, teacher)
    assert made[: len(rows)] == list(rows)
    return made[len(rows) :], report, teacher.asked


def test_a_row_has_the_translation_and_the_score_of_its_source():
    made, report, asked = run()
    of = {"rote tasse": "red cup", "tasse rouge": "red cup", "blauer schuh": "blue shoe"}
    assert {each.pair.query for each in made} == set(of)
    assert {pair.language for pair in asked} == {"en"}
    for each in made:
        assert Pair(of[each.pair.query], each.pair.candidate, "en") in asked
        is_right = of[each.pair.query].split()[-1] in each.pair.candidate
        assert each.extra["label_share"] == pytest.approx(1 / (1 + np.exp(-2 if is_right else 2)), abs=1e-4)
        assert each.label == is_right
        assert each.extra["translation_of"] == of[each.pair.query]
    assert sum(report.made.values()) == len(made) == report.pairs == len(asked)
    assert (report.texts, report.held_out, report.untranslated) == (3, 0, 1)


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_pair_that_a_row_labels_gets_no_row_of_the_teacher(language):
    every, before, _ = run(languages_per_pair=2)
    labelled = next(each.pair for each in every if each.pair.query == "rote tasse")
    own = LabeledPair(Pair("Rote  Tasse", labelled.candidate, language), 0, "own")
    made, report, _ = run(rows=[*ROWS, own], languages_per_pair=2)
    assert [each.pair for each in made] == [each.pair for each in every if each.pair != labelled]
    assert (before.known, report.known) == (0, 1)
    assert report.pairs == before.pairs  # in French it is a row


def test_candidates_that_differ_in_case_alone_are_one_pair():
    made, report, asked = run(candidates=[title.upper() for title in TITLES], per_text=100, targets=("de",))
    pairs = [(each.pair.query, each.pair.candidate.lower()) for each in made]
    assert len(set(pairs)) == len(pairs) == len(asked)
    assert report.known > 0


def test_of_texts_with_one_translation_the_first_labels_the_pair():
    units = [Unit({"en": "red cup", "de": "tasse"}), Unit({"en": "blue cup", "de": "Tasse"})]
    made, report, asked = run(units, per_text=100, targets=("de",))
    pairs = [each.pair.candidate for each in made]
    assert len(pairs) == len(set(pairs))
    assert report.known > 0
    assert report.pairs == len(asked) == len(made)
    both = {pair.candidate for pair in asked if pair.query == "red cup"}
    assert not both & {pair.candidate for pair in asked if pair.query == "blue cup"}


def test_the_rows_made_can_be_the_rows_of_another_call():
    made, _, _ = run()
    again, report, _ = run(rows=[*ROWS, *made], seed=1)
    pairs = [(each.pair.query, each.pair.candidate) for each in [*made, *again]]
    assert len(set(pairs)) == len(pairs)
    assert report.known > 0
    assert len({each.id for each in [*ROWS, *made, *again]}) == len(ROWS) + len(pairs)
    with pytest.raises(InputError, match=r"no row was made: all \d+ pairs that were drawn have a row already"):
        run(rows=[*ROWS, *made])


def test_most_candidates_are_near_the_text_and_none_comes_twice():
    made, _, _ = run(per_text=8, targets=("de",))
    near = [each for each in made if set(each.extra["translation_of"].split()) & set(each.pair.candidate.split())]
    assert len(near) > len(made) / 2
    pairs = [(each.pair.query, each.pair.candidate) for each in made]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_pair_is_written_in_so_many_of_its_languages(count):
    made, report, _ = run(languages_per_pair=count)
    cups = [each for each in made if each.extra["translation_of"] == "red cup"]
    pairs = {each.pair.candidate for each in cups}
    assert len(cups) == len(pairs) * min(count, 2)
    assert report.pairs == len(pairs) + sum(each.extra["translation_of"] == "blue shoe" for each in made)


@pytest.mark.parametrize("query", ["red  CUP", "rote tasse", "tasse rouge"])
def test_queries_of_dev_and_test_are_in_no_row_and_asked_in_none(query):
    made, report, asked = run(held_out=[row(query, "anything")])
    assert not [each for each in made if each.pair.query == query]
    if query == "red  CUP":
        assert report.held_out == 1
        assert not [pair for pair in asked if pair.query == "red cup"]
    else:
        assert {each.pair.language for each in made if each.extra["translation_of"] == "red cup"} == (
            {"de", "fr"} - {"de" if query == "rote tasse" else "fr"}
        )


def test_a_memory_that_translates_out_of_another_language_only_is_not_used():
    with pytest.raises(InputError, match=r"none of 0 texts in en can be used.*expected a memory"):
        run([Unit({"en": "cup", "de": "tasse"}, origin="de")])


def test_texts_without_a_target_are_counted():
    with pytest.raises(InputError, match=r"none of 1 texts .* 1 have no translation into de, fr"):
        run(UNITS[2:])


def test_further_candidates_are_drawn_too_and_ids_are_new():
    rows = [*ROWS, row("lamp", "lamp", 1, "transfer-0")]
    made, _, _ = run(rows=rows, candidates=["red cup of tin"], per_text=20)
    assert "red cup of tin" in {each.pair.candidate for each in made}
    names = [each.id for each in [*rows, *made]]
    assert len(set(names)) == len(names)


def test_of_many_candidates_a_sample_is_drawn():
    made, _, _ = run(most_candidates=5, per_text=20)
    titles = {each.pair.candidate for each in made}
    assert 1 < len(titles) <= 5
    assert titles != {each.pair.candidate for each in run(most_candidates=5, per_text=20, seed=1)[0]}


def test_the_seed_decides_and_nothing_else():
    first, second, other = (run(seed=seed)[0] for seed in (1, 1, 2))
    assert list(first) == list(second) != list(other)


@pytest.mark.parametrize(("per_text", "drawn"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (8, (4, 3, 1)), (20, (10, 7, 3))])
def test_half_of_the_candidates_are_of_the_nearest(per_text, drawn):
    assert TransferOptions(targets=("de",), per_text=per_text).drawn == drawn


@pytest.mark.parametrize("options", [{"targets": ()}, {"per_text": 0}, {"targets": ("de",), "languages_per_pair": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        TransferOptions(**{"targets": ("de",)} | options)


def test_one_candidate_is_enough():
    made, _, _ = run(rows=[LabeledPair(Pair("cup", "red cup", "en"), 1, "a")], targets=("de",))
    assert [(each.pair.query, each.pair.candidate) for each in made] == [
        ("rote tasse", "red cup"),
        ("blauer schuh", "red cup"),
    ]
