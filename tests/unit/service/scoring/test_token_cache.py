import sys

import hypothesis.strategies as st
from hypothesis import given

from relevance.model.inputs import PairInputs
from relevance.model.prior import CategoryPrior
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.tokenization import PairTokenizer
from service.scoring.score_cache import CachedLogit, ScoreCache
from service.scoring.token_estimate import TokenEstimator
from service.scoring.tokenization import TOKEN_BYTES, TextInput, TokenCache, TokenizationPlan, cost
from tests.tiny import MAX_LENGTH, PAD_ID, tiny_tokenizer

TOKENIZER = PairTokenizer(tiny_tokenizer(), MAX_LENGTH, PAD_ID)
PRIOR = CategoryPrior.of([["ab"], ["ab", "cd"]], [1.0, 0.0], [3.0, 1.0], folds=5)
INPUTS = PairInputs(Task.QC, PairFormat(language_tag=True), TOKENIZER, True, PRIOR)
words = st.sampled_from(["shoes", "ab,cd", "コップ", "x" * 200, "red cup, large"])
requests = st.lists(st.lists(st.builds(Pair, words, words, st.sampled_from(["en", "ja"])), min_size=1), max_size=6)


@given(requests, st.sampled_from([0, 30, 250, 10_000]))
def test_ids_are_those_of_the_tokenizer_whatever_the_cache_holds(requests, room):
    cache = TokenCache(room)
    for pairs in requests:
        reading = TokenizationPlan(pairs, INPUTS, cache)
        assert reading.join(reading.encode()) == INPUTS.encode(pairs)
        assert cache.tokens <= room


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 20)), max_size=60))
def test_cache_counts_exactly_what_it_holds(entries):
    cache = TokenCache(100)
    held = {}
    for text, length in entries:
        cache.put({text: TextInput([0] * length)})
        held.setdefault(text, length)
    found = cache.get(dict.fromkeys(held))
    assert cache.tokens == sum(cost(text, entry) for text, entry in found.items()) <= 100


def test_least_recently_used_goes_first():
    cache = TokenCache(3 * cost("a", TextInput([1])))
    cache.put({name: TextInput([1]) for name in "abc"})
    cache.get({"a": None})
    cache.put({"d": TextInput([4])})
    assert set(cache.get(dict.fromkeys("abcd"))) == {"a", "c", "d"}
    assert (cache.hits, cache.misses) == (4, 1)


def test_long_text_of_few_tokens_takes_its_room():
    cache = TokenCache(10_000)
    for number in range(100):
        cache.put({f"{number}" + " " * 4000 + "\U0001f600": TextInput([1, 2])})
    found = cache.get(dict.fromkeys(f"{number}" + " " * 4000 + "\U0001f600" for number in range(100)))
    assert 0 < sum(map(sys.getsizeof, found)) <= 10_000 * TOKEN_BYTES


def test_known_text_is_not_tokenised_again():
    cache = TokenCache(1000)
    first = TokenizationPlan([Pair("cup", "a,b"), Pair("cup", "c,d")], INPUTS, cache)
    assert first.fresh_bytes == 3 + 3 + 3
    first.join(first.encode())
    second = TokenizationPlan([Pair("cup", "c,d"), Pair("mug", "a,b")], INPUTS, cache)
    assert second.fresh_bytes == 3


def test_guess_knows_the_tokens_of_known_text_and_learns_those_of_new_text():
    cache, lengths = TokenCache(10_000), TokenEstimator()
    pairs = [Pair("red cup", name, "en") for name in ("shoes", "コップ", "x" * 200, "ab,cd")] * 3
    first = TokenizationPlan(pairs, INPUTS, cache)
    joined = first.join(first.encode())
    assert TokenizationPlan(pairs, INPUTS, cache).estimate(lengths) == sum(map(len, joined))
    long = [Pair("mug", "y" * 4000)]
    assert TokenizationPlan(long, INPUTS, cache).estimate(lengths) == MAX_LENGTH
    unknown = [Pair("mug", "z" * 12)]
    overhead = TOKENIZER.template.overhead
    assert TokenizationPlan(unknown, INPUTS, cache).estimate(lengths) == overhead + round(0.25 * 3) + round(0.25 * 12)


def test_score_cache_is_bounded_and_counts():
    cache = ScoreCache(2)
    pairs = [Pair("q", name) for name in "abc"]
    for place, pair in enumerate(pairs):
        cache.put(pair, CachedLogit(float(place), truncated=False))
    assert list(cache.get([*pairs, *pairs]).values()) == [
        None,
        CachedLogit(1.0, truncated=False),
        CachedLogit(2.0, truncated=False),
    ]
    assert (len(cache), cache.hits, cache.misses) == (2, 2, 1)
