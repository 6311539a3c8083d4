import pytest

from relevance.text.overlap import NAMES, CandidateLetters, QueryLetters


def of(query, candidate):
    found = QueryLetters.of(query).overlap(CandidateLetters.of(candidate))
    return dict(zip(NAMES, found, strict=True))


def test_overlap_by_hand():
    found = of("abc x9", "abc y")  # trigrams of " abc x9 ": " ab" "abc" "bc " "c x" " x9" "x9 "
    assert found["trigrams_contained"] == pytest.approx(3 / 6)
    assert found["trigrams_jaccard"] == pytest.approx(3 / 8)  # the candidate has "c y" and " y " beside
    assert (found["first_word"], found["last_word"]) == (1.0, 0.0)
    assert (found["worst_word"], found["mean_word"]) == (0.0, 0.5)
    assert (found["numbers_contained"], found["has_numbers"], found["inverse_words"]) == (0.0, 1.0, 0.5)


def test_case_punctuation_and_full_width_forms_do_not_matter():
    assert of("IPHONE-12", "Case (iPhone 12)") == of("iphone 12", "case iphone 12")
    assert of("iphone 12", "case iphone 12")["numbers_contained"] == 1.0


def test_misspelt_word_overlaps_in_part():
    assert 0.3 < of("vaccum", "vacuum cleaner")["last_word"] < 1.0


@pytest.mark.parametrize("query", ["", "?!", "a", "ا", "靴", "\ud800x"])
@pytest.mark.parametrize("candidate", ["", ",", "shoes", "靴下"])
def test_odd_texts_have_finite_features(query, candidate):
    found = QueryLetters.of(query).overlap(CandidateLetters.of(candidate))
    assert len(found) == len(NAMES)
    assert all(0.0 <= value <= 1.0 for value in found)
