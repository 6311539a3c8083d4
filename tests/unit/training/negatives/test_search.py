"""How negatives are searched for: exactly, in samples, by an approximate index; and where the vectors lie meanwhile."""

import functools
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from relevance.errors import MachineError
from relevance.tasks import LabeledPair, Pair, Task
from training.embedding.candidate_vectors import BLOCK_TEXTS, Vectors
from training.embedding.nearest import NearestIndex
from training.negatives import search
from training.negatives.options import NegativeOptions
from training.negatives.sampler import in_random_order
from training.negatives.sampling import sample_negatives
from training.negatives.search import CandidateSearch

DIMENSIONS, TOPICS = 32, 20


class Given:
    """Vectors around topics: the text `7 of 3` lies near topic 3, each text at a place of its own."""

    name = "given"

    def __init__(self, spread=0.6):
        self.spread = spread
        self.topics = np.random.default_rng(0).standard_normal((TOPICS, DIMENSIONS))

    def embed(self, texts, prefix):
        made = []
        for text in texts:
            number, topic = map(int, text.split(" of "))
            own = np.random.default_rng([number, topic, len(prefix)]).standard_normal(DIMENSIONS)
            made.append(self.topics[topic] + self.spread * own + 0.5)
        vectors = np.array(made, dtype=np.float32).reshape(-1, DIMENSIONS)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def texts(count, first=0):
    return [f"{n} of {n % TOPICS}" for n in range(first, first + count)]


def vectors(count, first=0, centred=True, prefix="passage: "):
    return Vectors(Given(), texts(count, first), prefix, centred=centred)


def everything(found):
    return found.take(slice(None))


def rows(count):
    """Positive rows of which each query lies near its title."""
    return [LabeledPair(Pair(f"{n} of {n % TOPICS}", text, "en"), 1, str(n)) for n, text in enumerate(texts(count))]


def sample(given, **options):
    made, report = sample_negatives(given, Task.QI, NegativeOptions(near_title=1, **options), Given())
    return made[len(given) :], report


# Vectors.


def test_vectors_are_those_of_the_encoder_in_order():
    count = BLOCK_TEXTS + 5
    found = vectors(count, centred=False)
    assert (len(found), found.dimensions) == (count, DIMENSIONS)
    expected = Given().embed(texts(count), "passage: ")
    assert np.abs(everything(found) - expected).max() < 1e-3
    assert (found.take(np.array([2050, 3])) == everything(found)[[2050, 3]]).all()


def test_centred_vectors_are_less_their_mean_and_of_length_1():
    plain = Given().embed(texts(300), "passage: ")
    moved = plain - plain.mean(axis=0)
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert np.abs(everything(vectors(300)) - expected).max() < 2e-3


def test_a_full_disk_is_named(monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(Path("/dev/full").open, "r+b", buffering=0))
    with pytest.raises(MachineError, match=r"no room for vectors .* expected 64 bytes for each"):
        vectors(10)


# Exact search and samples.


def searcher(count, queries=10, **options):
    return CandidateSearch(vectors(queries, prefix="query: "), vectors(count), NegativeOptions(**options))


def test_exact_search_has_the_cosine_of_every_candidate():
    found = list(searcher(200, strategy="hard").shortlists("exact", [(n, 0) for n in range(10)]))
    expected = everything(vectors(10, prefix="query: ")) @ everything(vectors(200)).T
    assert [one.candidates.tolist() for one in found] == [list(range(200))] * 10
    assert np.abs(np.array([one.similarities for one in found]) - expected).max() < 1e-5


def test_a_query_that_is_asked_for_again_is_searched_once():
    found = list(searcher(200, strategy="hard").shortlists("exact", [(4, 0), (4, 0), (4, 0), (2, 0)]))
    assert found[0] is found[1] is found[2]
    assert (found[3].similarities != found[0].similarities).any()


def test_samples_have_exact_cosines_and_every_candidate_has_its_turn(monkeypatch):
    monkeypatch.setattr(search, "SAMPLE_SIZE", 64)
    found = searcher(200, strategy="easy")
    assert found.searches("easy") == ("sample",)
    expected = everything(vectors(10, prefix="query: ")) @ everything(vectors(200)).T
    seen = set()
    for attempt in range(4):  # 256 turns for 200 candidates
        (one,) = found.shortlists("sample", [(3, attempt)])
        assert len(set(one.candidates.tolist())) == 64
        assert np.abs(one.similarities - expected[3, one.candidates]).max() < 1e-5
        seen |= set(one.candidates.tolist())
    assert seen == set(range(200))


@pytest.mark.parametrize("strategy", ["random", "easy", "hard", "mixed"])
def test_samples_serve_every_language_and_give_the_same_rows_again(monkeypatch, strategy):
    monkeypatch.setattr(search, "SAMPLE_SIZE", 100)
    given = rows(400)
    made, report = sample(given, strategy=strategy, per_positive=1)
    assert len(made) > 300
    kinds = {"hard": {"exact"}, "mixed": {"exact", "sample"}}.get(strategy, {"sample"})
    assert set(report.searches) == kinds
    assert sum(report.searches.values()) == report.made == len(made)
    assert sample(given, strategy=strategy, per_positive=1)[0] == made


def test_easy_negatives_of_a_sample_lie_where_those_of_all_candidates_do(monkeypatch):
    given = rows(600)
    exact = [one.extra["similarity"] for one in sample(given, strategy="easy", per_positive=1)[0]]
    monkeypatch.setattr(search, "SAMPLE_SIZE", 150)
    sampled = [one.extra["similarity"] for one in sample(given, strategy="easy", per_positive=1)[0]]
    assert np.quantile(sampled, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(exact, [0.1, 0.5, 0.9]), abs=0.05)


# The index.


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MachineError, match=r"usearch is not installed.*larger exact_up_to"):
        sample(rows(50), strategy="hard", exact_up_to=49)
    assert sample(rows(50), strategy="hard", exact_up_to=50)[1].made
    assert sample(rows(50), strategy="easy", exact_up_to=49)[1].made


@pytest.fixture
def usearch():
    return pytest.importorskip("usearch.index", reason="needs the package usearch")


@pytest.mark.usefixtures("usearch")
@pytest.mark.parametrize("nearest", [16, 128])
def test_the_index_finds_nine_in_ten_of_the_nearest(nearest):
    candidates, queries = vectors(4000), everything(vectors(100, prefix="query: "))
    found = NearestIndex(candidates, nearest).search(queries)
    exact = np.argsort(-(queries @ everything(candidates).T), axis=1)[:, :nearest]
    assert all(len(set(one.tolist())) == nearest for one in found)
    recall = np.mean([np.isin(one, best).mean() for one, best in zip(found, exact, strict=True)])
    assert recall >= 0.9


@pytest.mark.usefixtures("usearch")
def test_the_same_vectors_give_the_same_index():
    queries = everything(vectors(50, prefix="query: "))
    first, second = (NearestIndex(vectors(2000), 32).search(queries) for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


@pytest.mark.usefixtures("usearch")
def test_one_query_and_few_candidates_are_no_special_case():
    (found,) = NearestIndex(vectors(5), 128).search(everything(vectors(1)))
    assert found.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("usearch")
def test_hard_negatives_by_the_index_are_near_and_below_the_positive_share():
    given = rows(800)
    options = {"per_positive": 1, "exact_up_to": 700, "nearest": 100}
    made, report = sample(given, strategy="hard", **options)
    easy, _ = sample(given, strategy="easy", **options)
    assert report.searches["index"] > 400
    assert sample(given, strategy="hard", **options)[0] == made
    mean = [np.mean([one.extra["similarity"] for one in found]) for found in (easy, made)]
    assert mean[0] + 0.2 < mean[1]
    own = searcher(800, queries=800, strategy="easy").similarity(range(800), range(800))
    for one in made:
        positive = own[int(one.extra["source_id"])]
        assert one.extra["similarity"] < (0.95 * positive if positive > 0 else positive) + 1e-3


@pytest.mark.usefixtures("usearch")
def test_where_all_nearest_are_too_near_a_sample_helps():
    given = rows(600)
    made, report = sample(given, strategy="hard", per_positive=1, exact_up_to=0, nearest=2)
    assert report.searches["exact"] > 100  # so few candidates are their own sample
    assert sum(report.searches.values()) == len(made) > 500


# Drawing.


@pytest.mark.parametrize("share", [0.002, 0.05, 0.9])
def test_all_that_is_allowed_is_drawn_once_and_evenly(share):
    allowed = np.random.default_rng(0).random(3000) < share
    order = list(in_random_order(allowed, random.Random(0)))
    assert sorted(order) == np.flatnonzero(allowed).tolist()
    firsts = [next(in_random_order(allowed[:40] | (np.arange(40) < 4), random.Random(seed))) for seed in range(2000)]
    counts = Counter(firsts).values()
    mean = 2000 / len(counts)
    assert max(abs(count - mean) for count in counts) < 5 * mean**0.5


def test_nothing_is_drawn_where_nothing_is_allowed():
    assert list(in_random_order(np.zeros(10, dtype=np.bool_), random.Random(0))) == []
