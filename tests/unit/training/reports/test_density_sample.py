"""The sample of texts that a feature density is counted on."""

import heapq
import random
import zlib

import pytest

from training.reports import density
from training.reports.density import TextSample


@pytest.mark.parametrize(("count", "most"), [(40, 50), (50, 50), (51, 50), (400, 50), (400, 7)])
def test_a_sample_holds_the_texts_of_the_smallest_hashes_in_whatever_order_they_come(count, most, monkeypatch):
    monkeypatch.setattr(density, "MOST_TEXTS", most)
    monkeypatch.setattr(density, "_NEW_HASHES", 5)
    texts = [f"text {n}" for n in range(count)]
    expected = heapq.nsmallest(most, texts, key=lambda text: (zlib.crc32(text.encode(), 1), text))
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        sample = TextSample()
        for start in range(0, count, 3):
            sample.add(texts[start : start + 3])
            sample.add(texts[:2])
        assert sorted(sample.keys()) == sorted(expected)


def test_of_many_texts_few_more_than_the_sample_are_kept(monkeypatch):
    monkeypatch.setattr(density, "MOST_TEXTS", 100)
    monkeypatch.setattr(density, "_NEW_HASHES", 25)
    sample = TextSample()
    for start in range(0, 100_000, 20):
        sample.add(f"text {n}" for n in range(start, start + 20))
    assert len(sample._texts) < 1500  # 100 times 1 + log 1000, and those that come before hashes are sorted in
