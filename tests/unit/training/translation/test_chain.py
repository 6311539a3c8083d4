"""The chain that asks translators in order, with the cache in front of each."""

import pytest

from training.data.disk_cache import DiskCache
from training.endpoint.budget import Cost
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.translation.backends.memory import MemoryTranslator
from training.translation.backends.memory_files import Unit
from training.translation.chain import TranslatorChain


class Counting:
    """Upper case, except of `never`; stops at `stop_at` texts."""

    name, batch_size, cost = "counting", 2, Cost()

    def __init__(self, key="counting 1", never=(), stop_at=None, error=StoppedError):
        self.key, self.never, self.stop_at, self.error = key, never, stop_at, error
        self.asked = []

    def supports(self, source, target):
        return True

    def translate(self, texts, source, target):
        self.asked += texts
        done = {n: None if text in self.never else text.upper() for n, text in enumerate(texts)}
        if self.stop_at is not None and len(self.asked) > self.stop_at:
            done.pop(len(texts) - 1)
            raise self.error("down", done)
        return [done[n] for n in range(len(texts))]


def texts_of(found):
    return {text: answer.text for text, answer in found.items()}


def test_a_text_is_asked_for_once_per_translator_and_languages(tmp_path):
    with DiskCache(tmp_path / "c", "translation cache") as cache:
        for key, source, target, new in [
            ("a", "en", "de", 1),
            ("a", "en", "de", 0),
            ("b", "en", "de", 1),
            ("a", "fr", "de", 1),
            ("a", "en", "it", 1),
        ]:
            translator = Counting(key)
            chain = TranslatorChain([translator], cache)
            assert texts_of(chain.translate(["cup", "cup"], source, target)) == {"cup": "CUP"}
            assert (len(translator.asked), chain.cache_hits) == (new, 1 - new)


def test_texts_without_translation_are_remembered_until_they_are_forgotten(tmp_path):
    with DiskCache(tmp_path / "c", "translation cache") as cache:
        for expected in (1, 0):
            translator = Counting(never=["cup"])
            assert TranslatorChain([translator], cache).translate(["cup"], "en", "de") == {}
            assert len(translator.asked) == expected
        assert cache.forget_failures() == 1
        assert texts_of(TranslatorChain([Counting()], cache).translate(["cup"], "en", "de")) == {"cup": "CUP"}


def test_later_translators_get_what_earlier_ones_lack():
    memory = MemoryTranslator([Unit({"en": "cup", "de": "Tasse"})], "memory:m")
    fallback = Counting()
    found = TranslatorChain([memory, fallback]).translate(["cup", "bag"], "en", "de")
    assert {text: (one.text, one.translator) for text, one in found.items()} == {
        "cup": ("Tasse", "memory:m"),
        "bag": ("BAG", "counting"),
    }
    assert fallback.asked == ["bag"]


def test_what_a_stopped_translator_finished_is_kept(tmp_path):
    with DiskCache(tmp_path / "c", "translation cache") as cache:
        with pytest.raises(StoppedError, match=r"down; 3 translations are kept in .*same command"):
            TranslatorChain([Counting(stop_at=3)], cache).translate(["a", "b", "c", "d"], "en", "de")
        again = Counting()
        assert len(TranslatorChain([again], cache).translate(["a", "b", "c", "d"], "en", "de")) == 4
        assert again.asked == ["d"]


def test_a_spent_budget_is_an_error_unless_what_there_is_is_wanted(tmp_path):
    with pytest.raises(BudgetSpentError, match="nothing is kept"):
        TranslatorChain([Counting(stop_at=3, error=BudgetSpentError)]).translate(["a", "b", "c", "d"], "en", "de")
    chain = TranslatorChain([Counting(stop_at=3, error=BudgetSpentError)])
    found = chain.translate(["a", "b", "c", "d"], "en", "de", keep_at_budget=True)
    assert texts_of(found) == {"a": "A", "b": "B", "c": "C"}
    assert "down" in chain.spent
