"""Positives of near-duplicate queries, and relatives over any path separator, are no negatives."""

import numpy as np
import pytest

from relevance.tasks import LabeledPair, Pair, Task
from tests.unit.training.negatives.test_negatives import ENCODER
from training.negatives.near_queries import near_groups
from training.negatives.options import NegativeOptions
from training.negatives.sampling import sample_negatives

STRATEGIES = ("random", "easy", "hard", "mixed")


def row(query, candidate, id="1", label=1, **extra):
    return LabeledPair(Pair(query, candidate, "en"), label, str(id), extra)


OTHERS = [row(f"thing {n}", f"something else {n} of another kind", f"o{n}") for n in range(12)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "twin", ["iphone 12 cases", "Case, iPhone 12", "iphone12 case", "iphone 12 case's", "ＩＰＨＯＮＥ 12 case"]
)
def test_positives_of_a_near_query_are_known_positives(strategy, twin):
    rows = [row("iphone 12 case", "clear cover for iphone 12", 1), row(twin, "leather phone back shell 12 pro", 2)]
    options = NegativeOptions(strategy=strategy, per_positive=8, positive_share_limit=1.0)
    made, _ = sample_negatives([*rows, *OTHERS], Task.QI, options, ENCODER)
    wrong = {rows[1].pair.candidate: rows[0].pair.query, rows[0].pair.candidate: rows[1].pair.query}
    assert not [each for each in made if each.label == 0 and wrong.get(each.pair.candidate) == each.pair.query]


def test_a_query_with_another_number_is_another_query():
    assert len(set(near_groups([row("iphone 12 case", "a"), row("iphone 13 case", "b"), row("iphone case", "c")]))) == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("women's shoes", "womens shoe"),
        ("tasse", "tassen"),
        ("zapatos rojos", "zapato rojo"),
        ("lawn mower", "lawnmower"),
        ("café table", "cafe tables"),
        ("кружка", "кружки"),
        ("スマホ ケース", "スマホケース"),
        ("1.5 l bottle", "bottle 1.5 l"),
    ],
)
def test_queries_of_the_same_words_are_one(first, second):
    assert len(set(near_groups([row(first, "a"), row(second, "b")]))) == 1


@pytest.mark.parametrize(("first", "second"), [("cup", "mug"), ("1.5 l jar", "15 l jar"), ("red shoes", "blue shoes")])
def test_queries_of_other_words_or_numbers_are_not(first, second):
    assert len(set(near_groups([row(first, "a"), row(second, "b")]))) == 2


class Synonyms:
    """Places `sneakers` and `trainers` together whatever their letters, everything else apart."""

    name = "synonyms"

    def embed(self, texts, prefix):
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for n, text in enumerate(texts):
            place = 0 if text.split()[0] in ("sneakers", "trainers") else 1 + sum(map(ord, text)) % 60
            vectors[n, [place, 63]] = 1.0, 0.3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("number", ["", " 42"])
def test_positives_of_a_query_that_is_near_by_its_embedding_are_known_too(number, centred):
    rows = [row(f"sneakers{number}", "white canvas runners"), row("trainers", "grey knit joggers", 2), *OTHERS]
    options = NegativeOptions(strategy="random", per_positive=8, centred=centred)
    made, report = sample_negatives(rows, Task.QI, options, Synonyms())
    wrong = [m for m in made if m.label == 0 and m.pair.query.startswith("sneakers") and "joggers" in m.pair.candidate]
    is_known = not number
    assert ("near_query" in report.rejected()) == is_known
    if is_known:
        assert not wrong


def test_positives_of_a_near_query_in_a_language_that_needs_no_negatives_are_known():
    twin = LabeledPair(Pair("trainers", "grey knit joggers", "de"), 1, "2")
    enough = [LabeledPair(Pair(f"ding {n}", "something else 0 of another kind", "de"), 0, f"d{n}") for n in range(9)]
    rows = [row("sneakers", "white canvas runners"), twin, *enough, *OTHERS]
    rates = {"negative_rate": 0.99, "language_rates": {"de": 0.5}, "most_per_positive": 20}
    made, report = sample_negatives(rows, Task.QI, NegativeOptions(strategy="random", **rates), Synonyms())
    assert {m.pair.language for m in made[len(rows) :]} == {"en"}
    assert report.rejected()["near_query"] > 0
    assert ("sneakers", "grey knit joggers") not in {(m.pair.query, m.pair.candidate) for m in made}


@pytest.mark.parametrize("separator", [" > ", " / ", "|", ", ", ","])
def test_ancestors_and_descendants_are_no_negatives_by_any_separator(separator):
    tops, leaves = ("home", "sport", "garden", "toys"), ("cups", "shoes", "lamps", "balls")
    paths = [[top] for top in tops] + [[top, kind] for top in tops for kind in ("old", "new")]
    paths += [[top, kind, f"{leaf} {top} {kind}"] for top in tops for kind in ("old", "new") for leaf in leaves]
    rows = [row(f"query number {n}", separator.join(path), n) for n, path in enumerate(paths)]
    options = NegativeOptions(strategy="random", per_positive=12)
    made, _ = sample_negatives(rows, Task.QC, options, ENCODER)
    path_of = {each.pair.query: each.pair.candidate.split(separator) for each in rows}
    negatives = [each for each in made if each.label == 0]
    assert len(negatives) > 200
    for each in negatives:
        own, other = path_of[each.pair.query], each.pair.candidate.split(separator)
        shorter = min(len(own), len(other))
        assert own[:shorter] != other[:shorter]


def test_a_hundred_thousand_rows_are_grouped_in_linear_work():
    # Comparing each query with each other one would be ten thousand million comparisons: it would never end.
    rows = [row(f"brand{n // 2} phone case{'s' * (n % 2)} {n // 2}", f"item {n}", n) for n in range(100_000)]
    groups = list(near_groups(rows))
    assert len(set(groups)) == 50_000
    assert all(groups[n] == groups[n + 1] for n in range(0, 100_000, 2))
