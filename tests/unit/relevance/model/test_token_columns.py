"""Pairs as columns have the tokens, the arrays and the scores of pairs one by one."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.model.inputs import PairInputs
from relevance.model.prior import CategoryPrior
from relevance.model.text_cache import ENTRY_BYTES, ReadText, TextCache
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.overlap import QueryLetters
from relevance.text.tokenization import PairTokenizer
from tests.models import tiny_tokenizer

PRIOR = CategoryPrior.of([["shoes"], ["shoes", "sneakers"], ["home"]], [1.0, 0.5, 0.0], [3.0, 2.0, 1.0], folds=2)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
CANDIDATES = st.sampled_from(["shoes,sneakers", "home", "shoes", "a, b & c", "red cup " * 9])
PAIRS = st.lists(st.builds(Pair, TEXTS, CANDIDATES | TEXTS, st.sampled_from(["en", "ja"])), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What models read, without and with token types, features and a language tag."""
    found = []
    for number, template in enumerate(["<s> $A </s> </s> $B </s>", "<s> $A </s> $B:1 </s>:1"]):
        folder = tmp_path_factory.mktemp("tokenizer")
        tiny_tokenizer(folder, pairs=template)
        tokenizer = PairTokenizer.from_file(folder / "tokenizer.json", 24, pad_id=1)
        found.append(PairInputs(Task.QC, PairFormat(language_tag=bool(number)), tokenizer))
        found.append(PairInputs(Task.QC, PairFormat(), tokenizer, overlap=True, prior=PRIOR if number else None))
    return found


def columns_of(inputs, pairs, cache):
    queries, candidates = [pair.query for pair in pairs], [pair.candidate for pair in pairs]
    return inputs.columns(queries, candidates, [pair.language for pair in pairs], cache)


@given(PAIRS, PAIRS)
def test_columns_give_the_arrays_of_single_pairs(inputs, first, second):
    for each in inputs:
        cache = TextCache()
        for pairs in (first, second + first):  # the second call finds texts of the first
            tokens, columns = each.encode(pairs), columns_of(each, pairs, cache)
            assert columns.lengths.tolist() == [len(token) for token in tokens]
            assert columns.truncated.tolist() == [token.truncated for token in tokens]
            places = list(range(len(pairs)))[::-2]
            expected = each.tokenizer.collate([tokens[place] for place in places])
            found = columns.collate(places)
            assert found.keys() == expected.keys()
            for name, array in expected.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_each_text_is_tokenised_once(inputs, monkeypatch):
    seen = []
    encode = PairTokenizer.encode_texts
    monkeypatch.setattr(PairTokenizer, "encode_texts", lambda self, texts: seen.extend(texts) or encode(self, texts))
    cache = TextCache()
    pairs = [Pair(f"query {n // 3}", f"shoes,{n % 3}") for n in range(9)]
    columns_of(inputs[0], pairs, cache)
    columns_of(inputs[0], [*pairs, Pair("query 0", "new")], cache)
    assert sorted(seen) == ["new", "query 0", "query 1", "query 2", *(f"shoes > {n}" for n in range(3))]


def test_a_cache_keeps_what_is_used_and_stays_within_two_generations():
    cache = TextCache(max_bytes=20 * ENTRY_BYTES)
    kept = ReadText(np.zeros(4, np.int32), None)
    cache.put({"used": kept})
    for number in range(500):
        cache.put({f"once {number}": kept})
        assert cache.get(["used"]) == [kept]
    found = cache.get([f"once {number}" for number in range(500)])
    assert 0 < sum(each is not None for each in found) <= 40
    assert found[-1] is kept
    assert found[0] is None


@pytest.mark.parametrize("word", ["shoe", "2026"])  # a word with a digit is kept twice
def test_a_cache_counts_the_features_of_its_texts_too(word):
    cache, most = TextCache(max_bytes=200_000), 2 * 200_000
    tracemalloc.start()
    try:
        for number in range(200):
            text = " ".join(f"{word}{chr(97 + number % 26)}{chr(97 + place)}{number}" for place in range(20))
            cache.put({(text, "en"): ReadText(np.zeros(40, np.int32), QueryLetters.of(text))})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most / 4 < held < 1.25 * most
