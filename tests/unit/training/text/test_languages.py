"""Scripts, the detector, and what checking tags asks of it."""

import importlib.util
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import MachineError
from training.text import detector
from training.text.detector import Detector, detectable
from training.text.languages import Outcome, check_tags
from training.text.scripts import LATIN, OTHER, script_of, scripts_of

needs_lingua = pytest.mark.skipif(importlib.util.find_spec("lingua") is None, reason="lingua is not installed")
QUERIES = ["wasserdichte jacke", "giacca impermeabile", "zielona sukienka", "124008", "コーヒー カップ", "chaise bébé"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_scripts_of_a_text_are_those_of_its_characters(text: str) -> None:
    assert scripts_of(text) == Counter(script for script in map(script_of, text) if script)


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", LATIN),
        ("ａ", LATIN),
        ("ª", LATIN),
        ("µ", OTHER),
        ("μ", "GREEK"),
        ("ー", "KATAKANA"),
        ("々", "HAN"),
        ("7", ""),
    ],
)
def test_script_of_letters_that_go_by_other_names(character: str, script: str) -> None:
    assert script_of(character) == script


@needs_lingua
def test_likelihoods_are_the_same_in_every_run_and_sum_to_one() -> None:
    weigher = Detector(["de", "it", "pl", "ja", "fr"])
    first, again = weigher.likelihoods(QUERIES * 50), weigher.likelihoods(QUERIES * 50)
    assert first == again
    assert first[: len(QUERIES)] == first[-len(QUERIES) :]
    sums = [sum(values.values()) for values in first[: len(QUERIES)]]
    assert sums == pytest.approx([1, 1, 1, 0, 1, 1], abs=1e-6)


@needs_lingua
def test_detector_weighs_languages_that_it_knows_and_nothing_below_two() -> None:
    assert Detector(["de", "xx", "it"]).codes == ("de", "it")
    assert Detector(["de", "xx"]).likelihoods(["jacke"]) == [{}]
    assert {"en", "ja", "th"} <= detectable()


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    detector._languages.cache_clear()
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(MachineError, match=r"lingua-language-detector.*switched off"):
        check_tags([("red shoes", "en"), ("rote schuhe", "de")])


@needs_lingua
def test_queries_that_differ_in_numbers_only_have_one_verdict() -> None:
    sizes = ("38", "40", "m4", "38 m4")
    verdicts = check_tags([(f"giacca {size} impermeabile donna", "de") for size in sizes] + [("rote jacke", "it")])
    outcomes = [verdicts[f"giacca {size} impermeabile donna", "de"] for size in sizes]
    assert outcomes[0].outcome is Outcome.DISAGREES
    assert len(set(outcomes)) == 1


@needs_lingua
def test_order_and_repetition_of_rows_change_no_verdict() -> None:
    pairs = [(query, tag) for query in QUERIES for tag in ("de", "it", "unk")]
    assert check_tags(pairs) == check_tags([*reversed(pairs), *pairs])


@needs_lingua
def test_a_few_wrong_tags_in_many_rows_make_no_word_a_name() -> None:
    right = [(f"waterproof jacket for hiking {n}", "en") for n in range(100)]
    right += [(f"chaqueta impermeable {n}", "es") for n in range(50)]
    wrong = [("waterproof jacket for hiking", tag) for tag in ("de", "fr", "it")]
    verdicts = check_tags([*right, *wrong])
    assert {verdicts[pair].outcome for pair in wrong} == {Outcome.DISAGREES}
