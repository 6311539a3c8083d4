"""Negatives of rows on disk: the number of buckets changes nothing, and pieces of rows break no rule."""

import random

import numpy as np
import pytest

from relevance.tasks import LabeledPair, Pair, Task, query_key
from tests.unit.training.negatives.test_negatives import ENCODER
from training.data.stored import spool
from training.data.stored.rows import stored
from training.negatives import grouped, search
from training.negatives.near_queries import near_groups
from training.negatives.options import NegativeOptions
from training.negatives.quota import Quota
from training.negatives.sampling import sample_negatives

WORDS = ["red", "blue", "shoe", "shoes", "lamp", "cup", "cups", "table", "old", "new", "women", "12", "13", "home"]


def noisy(count):
    """Rows whose queries repeat, with other spellings, translations, repeated ids and earlier negatives."""
    chance = random.Random(2)
    rows = []
    for at in range(count):
        query = " ".join(chance.choices(WORDS, k=chance.randrange(1, 4)))
        query = query.replace(" ", "") if chance.random() < 0.05 else query
        path = ",".join([chance.choice(["home", "sport", "toys"]), chance.choice("abcdefgh"), chance.choice(WORDS)])
        link = {"source": "translation", "source_id": f"r{chance.randrange(count)}", "source_language": "en"}
        pair = Pair(query, path, chance.choice(["en", "de", "fr"]))
        key = f"r{at}" if chance.random() < 0.9 else f"r{chance.randrange(count)}~neg{chance.randrange(3)}"
        rows.append(LabeledPair(pair, int(chance.random() < 0.7), key, link if chance.random() < 0.2 else {}))
    return rows


def no_cups(rows):
    return np.array([0 if row.label else 1 if row.pair.candidate.endswith(("cup", "cups")) else -1 for row in rows])


def results(strategy):
    options = NegativeOptions(strategy=strategy, per_positive=2, exact_up_to=0 if strategy == "hard" else 1000)
    made, report = sample_negatives(stored(noisy(300)), Task.QC, options, ENCODER, vet=no_cups)
    return list(made), report


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(grouped, "PIECE_ROWS", 30)
    monkeypatch.setattr(search, "SAMPLE_SIZE", 64)  # of some 300 candidates
    monkeypatch.setattr(search, "_SAMPLE_QUERIES", 16)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("strategy", ["random", "hard", "mixed"])
def test_negatives_do_not_depend_on_the_number_of_buckets(strategy, monkeypatch):
    if strategy == "hard":
        pytest.importorskip("usearch.index", reason="needs the package usearch")
    once = results(strategy)
    assert once[1].made > 50
    for rows in (9, 100):
        monkeypatch.setattr(spool, "BUCKET_ROWS", rows)
        assert results(strategy) == once


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("strategy", ["random", "easy", "mixed"])
def test_no_negative_of_a_piece_breaks_a_rule(strategy):
    rows = noisy(400)
    options = NegativeOptions(strategy=strategy, per_positive=3, near_query=1.0)
    made, report = sample_negatives(rows, Task.QC, options, ENCODER)
    new, ids = made[len(rows) :], {row.id for row in rows}
    assert len(new) == report.made > 200
    assert len(ids | {row.id for row in new}) == len(ids) + len(new)
    pairs = [(query_key(row.pair.query), row.pair.candidate) for row in new]
    assert len(set(pairs)) == len(pairs)
    group_of = {query_key(row.pair.query): group for row, group in zip(rows, near_groups(rows), strict=True)}
    positives = {(group_of[query_key(row.pair.query)], row.pair.candidate) for row in rows if row.label}
    assert not {(group_of[query], candidate) for query, candidate in pairs} & positives
    sources = [row.extra["source_id"] for row in new]
    places = {row.id: at for at, row in reversed(list(enumerate(rows))) if row.label}
    unique = [places[name] for name in sources if sum(row.id == name for row in rows) == 1]
    assert unique == sorted(unique)


def test_a_quota_asks_rows_by_rank_and_none_twice_before_all_were_asked():
    quota = Quota("en", positives=5, negatives=0, wanted=7, limit=2, attempts=2)
    assert quota.plan().tolist() == [1, 1, 1, 1, 1]
    for rank in range(5):
        quota.count(rank, 1, int(rank != 1))
    quota.accept(np.array([0, 2, 3, 4]), ["easy"] * 4)
    assert quota.plan().tolist() == [1, 0, 1, 1, 0]  # 3 are missing; the row of rank 1 has no more
    quota.count(0, 1, 1)
    quota.ask_again(np.array([0]))
    assert quota.plan().tolist() == [1, 0, 1, 1, 0]


def test_a_quota_asks_for_no_more_than_a_row_may_give():
    quota = Quota("en", positives=2, negatives=0, wanted=1000, limit=3, attempts=6)
    assert quota.plan().tolist() == [3, 3]
    quota.accept(np.array([0, 0, 0]), ["easy"] * 3)
    assert quota.plan().tolist() == [0, 3]
