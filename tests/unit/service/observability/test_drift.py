import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from relevance.evaluation.metrics import HISTOGRAM_BINS
from relevance.model.card import ModelCard, score_reference
from relevance.model.heads import HeadSpec
from relevance.text.formatting import PairFormat
from service.observability.drift import ALL, MIN_BIN_ROWS, SLICES, Bins, Drift, Reference, psi
from service.observability.drift_metrics import ScoreHistogramCollector
from service.observability.score_histogram import MAX_BUFFERED_PAIRS, ScoreHistogram

counts = arrays(np.int64, 10, elements=st.integers(0, 1000)).filter(lambda rows: rows.sum() > 0)
histograms = st.lists(st.integers(0, 500), min_size=20, max_size=20)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def card(**fields):
    return ModelCard(
        name="x",
        task="qc",
        format=PairFormat(),
        max_length=64,
        pad_id=1,
        head=HeadSpec(kind="stock", hidden_size=8),
        threshold=0.5,
        base_model="b",
        created="now",
        **fields,
    )


def spread(rng, low, high, count=4000):
    return rng.uniform(low, high, count)


def test_index_of_known_shares():
    by_hand = (0.5 - 0.6) * math.log(0.5 / 0.6) + (0.3 - 0.3) * 0 + (0.2 - 0.1) * math.log(0.2 / 0.1)
    assert psi([50, 30, 20], [600, 300, 100]) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.0875, abs=1e-4)


def test_empty_bin_counts_as_half_a_row():
    by_hand = (0.5 - 1.0) * math.log(0.5 / 1.0) + (0.5 - 0.5 / 20) * math.log(0.5 / (0.5 / 20))
    assert psi([10, 10], [20, 0]) == pytest.approx(by_hand)


@given(counts, st.integers(1, 50))
def test_same_shares_have_no_index_however_many_rows(rows, times):
    assert psi(rows, rows * times) == pytest.approx(0, abs=1e-12)


@given(counts, counts)
def test_index_is_symmetric_finite_and_never_negative(one, other):
    assert 0 <= psi(one, other) < math.inf
    assert psi(one, other) == pytest.approx(psi(other, one))


@given(histograms.filter(lambda rows: sum(rows) >= MIN_BIN_ROWS))
def test_merged_bins_keep_all_rows_and_are_neither_many_nor_one(rows):
    bins = Bins.of(rows)
    assert bins.rows.sum() == sum(rows)
    assert bins.merge(np.array(rows)).tolist() == bins.rows.tolist()
    assert 2 <= len(bins.rows) <= 10
    assert (np.diff(bins.starts) > 0).all()


def test_bins_hold_a_tenth_of_the_rows_or_twenty():
    assert Bins.of([10] * 20).rows.tolist() == [20] * 10
    assert Bins.of([0] * 5 + [1000] * 10 + [0] * 5).rows.tolist() == [1000] * 10
    assert min(Bins.of([3] * 20).rows) >= MIN_BIN_ROWS


def test_scores_that_are_all_alike_are_told_from_others():
    bins = Bins.of([0] * 19 + [500])
    assert psi(bins.rows, bins.merge(np.array([0] * 19 + [300]))) == 0
    assert psi(bins.rows, bins.merge(np.array([300] + [0] * 19))) > 1


@pytest.mark.parametrize("histogram", [(), (1,) * 19, (0,) * 20])
def test_histogram_without_rows_is_no_reference(histogram):
    assert Bins.of(histogram) is None


def test_older_card_gives_no_index():
    histogram = ScoreHistogram(["en"])
    drift = Drift(Reference.of(card(), 1), histogram.languages, 60)
    drift.add(counted(histogram, ["en"] * 100, np.full(100, 0.7)))
    assert drift.reference.score_psi(drift.seen()) == {}
    assert drift.reference.mix_psi(drift.seen()) is None


def counted(histogram, languages, scores):
    histogram.add(languages, scores, scores >= 0.5)
    return histogram.take()[0].sum(axis=1)


def drifting(rng, clock):
    """A drift whose reference is 1,000 uniform English scores, 300 low Spanish ones and 10 Thai ones."""
    scores = np.concatenate([spread(rng, 0, 1, 1000), spread(rng, 0, 0.4, 300), spread(rng, 0, 1, 10)])
    languages = ["en"] * 1000 + ["es"] * 300 + ["th"] * 10
    found = card(**score_reference(scores, languages))
    histogram = ScoreHistogram(["en", "es", "th"])
    return histogram, Drift(Reference.of(found, 500), histogram.languages, 60, clock)


def test_scores_as_in_the_reference_have_a_small_index_and_others_a_large_one():
    rng, clock = np.random.default_rng(0), Clock()
    histogram, drift = drifting(rng, clock)
    drift.add(counted(histogram, ["en"] * 4000, spread(rng, 0, 1)))
    drift.add(counted(histogram, ["es"] * 4000, spread(rng, 0.5, 1)))
    found = drift.reference.score_psi(drift.seen())
    assert found.keys() == {ALL, "en", "es"}  # ten rows of Thai are no reference
    assert found["en"] < 0.1
    assert found["es"] > 0.25


def test_few_scores_give_no_number():
    rng, clock = np.random.default_rng(0), Clock()
    histogram, drift = drifting(rng, clock)
    drift.add(counted(histogram, ["en"] * 499, spread(rng, 0, 1, 499)))
    assert all(map(math.isnan, drift.reference.score_psi(drift.seen()).values()))
    assert math.isnan(drift.reference.mix_psi(drift.seen()))
    drift.add(counted(histogram, ["en"], spread(rng, 0, 1, 1)))
    found = drift.reference.score_psi(drift.seen())
    assert found[ALL] == pytest.approx(found[ALL])
    assert math.isnan(found["es"])


def test_languages_are_compared_without_pairs_that_name_none():
    rng, clock = np.random.default_rng(0), Clock()
    histogram, drift = drifting(rng, clock)
    mix = ["en"] * 1000 + ["es"] * 300 + ["th"] * 10
    drift.add(counted(histogram, mix + ["unk"] * 5000, spread(rng, 0, 1, 6310)))
    assert drift.reference.mix_psi(drift.seen()) == pytest.approx(0, abs=1e-12)
    drift.add(counted(histogram, ["tlh"] * 2000, spread(rng, 0, 1, 2000)))
    assert drift.reference.mix_psi(drift.seen()) > 0.25


def test_scores_leave_the_window_slice_by_slice():
    rng, clock = np.random.default_rng(0), Clock()
    histogram, drift = drifting(rng, clock)
    for _ in range(2 * SLICES):
        drift.add(counted(histogram, ["en"] * 100, spread(rng, 0, 1, 100)))
        clock.now += 10
    assert drift.seen()[ALL].sum() == 100 * (SLICES - 1)
    clock.now += 10
    assert drift.seen()[ALL].sum() == 100 * (SLICES - 2)
    clock.now += 1e6
    assert drift.seen()[ALL].sum() == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["en", "es", "unk", "tlh", "xx"]), st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=50,
    )
)
def test_scores_counted_at_once_count_as_one_by_one(rows):
    histogram = ScoreHistogram(["en", "es"])
    languages, scores, labels = zip(*rows, strict=True)
    known = [language if language in ("en", "es", "unk") else "other" for language in languages]
    half = len(rows) // 2
    for part in (slice(0, half), slice(half, None)):  # two requests, the first one maybe of nothing
        histogram.add(languages[part], np.array(scores[part]), np.array(labels[part], dtype=bool))
    expected = np.zeros((4, 2, 20), dtype=int)
    for language, score, label in zip(known, scores, labels, strict=True):
        expected[histogram.languages.index(language), int(label), min(int(score * 20), 19)] += 1
    counts, sums = histogram.take()
    assert counts.tolist() == expected.tolist()
    for language, total in zip(histogram.languages, sums, strict=True):
        assert total == pytest.approx(sum(s for name, s in zip(known, scores, strict=True) if name == language))
    assert histogram.take()[0].sum() == 0


def test_histogram_buffers_a_limited_number_of_pairs():
    histogram = ScoreHistogram(["en"])
    for _ in range(MAX_BUFFERED_PAIRS // 100 + 1):
        histogram.add(["en"] * 100, np.full(100, 0.3), np.zeros(100, dtype=bool))
    assert not histogram._buffer
    assert histogram.take()[0].sum() == 100 * (MAX_BUFFERED_PAIRS // 100 + 1)


def test_a_scrape_shows_whole_series_while_scores_are_added_and_a_model_with_new_languages_is_loaded(monkeypatch):
    collector, cumsum = ScoreHistogramCollector("score", ""), np.cumsum
    for language in ("en", "ja"):
        collector.create("qc", language)

    def meanwhile(counts):  # what other threads do while the scrape reads
        collector.create("qc", f"new-{len(list(collector._series))}")
        collector.add("qc", "en", np.ones(HISTOGRAM_BINS, np.int64), 10.0)
        return cumsum(counts)

    monkeypatch.setattr(np, "cumsum", meanwhile)
    (family,) = collector.collect()
    monkeypatch.undo()
    values = {(sample.name, sample.labels["language"]): sample.value for sample in family.samples}
    assert (values["score_count", "en"], values["score_sum", "en"]) == (0, 0)
    (family,) = collector.collect()
    values = {(sample.name, sample.labels["language"]): sample.value for sample in family.samples}
    assert (values["score_count", "en"], values["score_sum", "en"]) == (2 * HISTOGRAM_BINS, 20)
