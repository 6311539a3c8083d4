"""Negative sampling: what is never a negative, how many are made, and from which band."""

import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.negatives.options import NegativeOptions
from training.negatives.report import NegativesReport
from training.negatives.sampling import sample_negatives


class WordEncoder:
    """A bag of words: texts that share words are alike. Real vectors of length 1, without a model."""

    name = "words"

    def embed(self, texts, prefix):
        vectors = np.full((len(texts), 48), 0.05, dtype=np.float32)
        for n, text in enumerate(texts):
            for word in query_key(text).replace(">", " ").split():
                vectors[n, hashlib.sha256(word.encode()).digest()[0] % 48] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


ENCODER = WordEncoder()
SHOP = [f"{top},{middle},{leaf}" for top in ("home", "sport") for middle in ("red", "blue", "old")
        for leaf in ("cups", "shoes", "lamps", "balls")]  # fmt: skip


def row(query, candidate, label=1, id="1", language="en", **extra):
    return LabeledPair(Pair(query, candidate, language), label, id, extra)


def shop_rows(languages=("en", "de"), count=40, negatives=4):
    """Rows about leaves of SHOP: `count` positive and `negatives` negative ones a language."""
    rows = []
    for language in languages:
        for n in range(count):
            path = SHOP[n % len(SHOP)]
            rows.append(row(f"{' '.join(path.split(',')[1:])} {n} {language}", path, 1, f"{language}{n}", language))
        rows += [row(f"other {n}", SHOP[n], 0, f"{language}-{n}", language) for n in range(negatives)]
    return rows


def sample(rows, task=Task.QC, vet=None, extra_candidates=(), **options):
    options = NegativeOptions(**options)
    made, report = sample_negatives(rows, task, options, ENCODER, vet=vet, extra_candidates=extra_candidates)
    assert made[: len(rows)] == list(rows)
    return made[len(rows) :], report


def cosine(query, path):
    first, second = ENCODER.embed([query, path.replace(",", " > ")], "")
    return float(first @ second)


# The rules of what is never a negative, written again as plainly as can be.

QUERIES = ["shoes", "SHOES ", "zapatos", "cups", "tassen"]
PATHS = ["a", "A,b", "a,b,c", "a,b,d", "x,y,C", "x,y", "x,z", "q,r", "Q,s", "t,u"]
TITLES = ["Red mug 12 oz", "red  mug 12 oz", "red mug 12 oz.", "garden hose 50 ft", "drill bit set", "oak shelf", "fan"]


@st.composite
def labelled_rows(draw, candidates):
    base = st.tuples(st.sampled_from(QUERIES), st.sampled_from(candidates), st.integers(0, 1))
    rows = [row(q, c, label, f"{n}") for n, (q, c, label) in enumerate(draw(st.lists(base, min_size=1, max_size=12)))]
    rows += [row("other", candidate, 0, f"other{n}") for n, candidate in enumerate(candidates)]
    for n, source in enumerate(draw(st.lists(st.sampled_from(rows), max_size=6))):
        query = draw(st.sampled_from(["schuhe", "靴", "Tassen", "خزف"]))
        extra = {"source": "translation", "source_id": source.id, "strategy": "memory", "source_language": "en"}
        rows.append(row(query, source.pair.candidate, source.label, f"{source.id}~de{n}", "de", **extra))
    return rows


def groups(rows):
    """Return the indices of rows by group, merged until nothing changes."""
    members = [{n} for n in range(len(rows))]

    def linked(a, b):
        return query_key(a.pair.query) == query_key(b.pair.query) or a.extra.get("source_id", a.id) == b.extra.get(
            "source_id", b.id
        )

    for first, second in itertools.combinations(range(len(rows)), 2):
        if linked(rows[first], rows[second]):
            union = members[first] | members[second]
            for n in union:
                members[n] = union
    return members


def kin(first, second):
    a, b = (path.casefold().split(",") for path in (first, second))
    return a[-1] == b[-1] or a == b[: len(a)] or b == a[: len(b)]


def bigram_f1(a, b):
    first, second = ({f" {query_key(t)} "[n : n + 2] for n in range(len(query_key(t)) + 1)} for t in (a, b))
    return 2 * len(first & second) / (len(first) + len(second))


def check_rules(rows, made, is_near):
    by_id = {r.id: n for n, r in enumerate(rows)}
    members = groups(rows)
    pairs = Counter((query_key(r.pair.query), r.pair.candidate) for r in rows)
    assert len({r.id for r in [*rows, *made]}) == len(rows) + len(made)
    for one in made:
        source = rows[by_id[one.extra["source_id"]]]
        assert (one.label, source.label) == (0, 1)
        assert one.extra["source"] == "negative"
        assert one.id.startswith(f"{source.id}~neg")
        assert (one.pair.query, one.pair.language) == (source.pair.query, source.pair.language)
        key = (query_key(one.pair.query), one.pair.candidate)
        assert pairs[key] == 0
        pairs[key] += 1
        positives = [rows[n].pair.candidate for n in members[by_id[source.id]] if rows[n].label == 1]
        assert not any(is_near(one.pair.candidate, positive) for positive in positives)


STRATEGIES = st.sampled_from(["random", "easy", "hard", "mixed"])


@given(labelled_rows(PATHS), STRATEGIES, st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_no_negative_is_positive_in_any_language_or_akin_to_a_positive_path(rows, strategy, per_positive, seed):
    try:
        made, _ = sample(rows, strategy=strategy, per_positive=per_positive, seed=seed, positive_share_limit=1)
    except (ConfigError, InputError):
        return  # few rows: nothing can be made
    check_rules(rows, made, kin)


@given(labelled_rows(TITLES), STRATEGIES, st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_no_negative_is_a_known_positive_title_or_nearly_one(rows, strategy, per_positive):
    try:
        made, _ = sample(rows, Task.QI, strategy=strategy, per_positive=per_positive, positive_share_limit=1)
    except (ConfigError, InputError):
        return
    check_rules(rows, made, lambda a, b: bigram_f1(a, b) >= 0.85)


def test_a_translation_shares_its_sources_positives_even_where_the_source_was_dropped():
    link = {"source": "translation", "source_id": "gone"}
    rows = [row("schuhe", "a,b", id="1", language="de", **link), row("buty", "c,d", id="2", language="pl", **link)]
    rows += [row("lamp", "e,f", id="3")]
    made, _ = sample(rows, strategy="random", per_positive=2)
    found = {(one.pair.query, one.pair.candidate) for one in made}
    assert found == {("schuhe", "e,f"), ("buty", "e,f"), ("lamp", "a,b"), ("lamp", "c,d")}


# How many, from where.


@pytest.mark.parametrize("strategy", ["random", "easy", "hard", "mixed"])
def test_each_language_reaches_the_wanted_rate(strategy):
    rows = shop_rows(negatives=0) + [row("x", path, 0, f"n{n}", "de") for n, path in enumerate(SHOP[:12])]
    made, report = sample(rows, strategy=strategy, negative_rate=0.4)
    assert Counter(one.pair.language for one in made) == {"en": 27, "de": 15}
    assert [language.negative_rate for language in report.languages] == pytest.approx([0.4, 0.4], abs=0.005)
    assert report.made == len(made) == sum(report.strategies().values())


def test_per_positive_gives_each_row_as_many():
    made, _ = sample(shop_rows(), strategy="random", per_positive=3)
    assert set(Counter(one.extra["source_id"] for one in made).values()) == {3}
    assert len(made) == 240


def test_a_language_with_negatives_enough_gets_none():
    rows = shop_rows(("en",), count=10, negatives=0) + shop_rows(("de",), count=10, negatives=12)
    made, report = sample(rows, strategy="random", negative_rate=0.5)
    assert {one.pair.language for one in made} == {"en"}
    assert [language.wanted for language in report.languages] == [0, 10]


def test_a_language_may_have_a_rate_of_its_own():
    made, report = sample(shop_rows(), strategy="random", negative_rate=0.2, language_rates={"de": 0.5})
    assert Counter(one.pair.language for one in made) == {"de": 36, "en": 6}
    assert [language.negative_rate for language in report.languages] == pytest.approx([0.5, 0.2])


def test_hard_negatives_are_nearer_to_the_query_than_easy_ones_and_these_below_the_positive():
    found = {name: sample(shop_rows(), strategy=name, per_positive=1, centred=False) for name in ("easy", "hard")}
    mean = {name: np.mean([one.extra["similarity"] for one in made]) for name, (made, _) in found.items()}
    assert mean["easy"] + 0.1 < mean["hard"]
    sources = {one.id: one.pair for one in shop_rows()}
    for one in found["hard"][0]:
        source = sources[one.extra["source_id"]]
        assert one.extra["similarity"] == pytest.approx(cosine(one.pair.query, one.pair.candidate), abs=1e-3)
        assert one.extra["similarity"] < 0.95 * cosine(source.query, source.candidate) + 1e-3


def test_centring_gives_back_the_range_to_vectors_that_lie_near_one_direction():
    class Narrow(WordEncoder):
        def embed(self, texts, prefix):
            vectors = super().embed(texts, prefix) + 0.8
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    options = {"strategy": "hard", "per_positive": 1}
    with pytest.raises(ConfigError, match="positive_share"):
        sample_negatives(shop_rows(), Task.QC, NegativeOptions(**options, centred=False), Narrow())
    _, report = sample_negatives(shop_rows(), Task.QC, NegativeOptions(**options), Narrow())
    assert report.made > 20


def test_mixed_has_both_kinds_and_says_which():
    made, report = sample(shop_rows(), strategy="mixed", per_positive=2)
    assert set(report.strategies()) == {"easy", "hard"}
    assert Counter(one.extra["strategy"] for one in made) == report.strategies()


def test_a_given_band_holds():
    made, report = sample(shop_rows(), strategy="easy", per_positive=1, band_low=0.3, band_high=0.6)
    assert made
    assert all(0.2999 <= one.extra["similarity"] <= 0.6001 for one in made)
    assert report.similarity.edges[0] >= 0.2999


def test_the_positive_share_cuts_and_is_counted():
    loose, _ = sample(shop_rows(), strategy="hard", per_positive=1, positive_share_limit=1.0)
    tight, report = sample(shop_rows(), strategy="hard", per_positive=1, positive_share_limit=0.8)
    assert max(one.extra["similarity"] for one in tight) < max(one.extra["similarity"] for one in loose)
    assert report.rejected()["positive_share"] > 0


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    first, again, other = (sample(shop_rows(), strategy="easy", seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_a_second_run_makes_new_ids_and_new_pairs():
    rows = shop_rows()
    first, _ = sample(rows, strategy="random", per_positive=1)
    second, _ = sample([*rows, *first], strategy="random", per_positive=1)
    assert not {one.id for one in first} & {one.id for one in second}
    assert not {one.pair for one in first} & {one.pair for one in second}


def test_extras_of_the_positive_do_not_describe_the_negative():
    rows = [row("shoes", "a,b", brand="b", source_language="en"), row("cups", "c,d", id="2")]
    made, _ = sample(rows, strategy="random", per_positive=1)
    assert made[0].extra.keys() == {"source", "source_id", "strategy", "similarity", "source_language"}


def test_further_candidates_become_negatives_under_the_same_rules():
    rows = [row("red shoes", "sport,red,shoes"), row("blue cups", "home,blue,cups", id="2")]
    further = ["sport", "SPORT,red,shoes", "office,shoes", "office,pens", "office,desks", "home,blue,cups,tall"]
    made, report = sample(rows, strategy="random", per_positive=8, extra_candidates=further)
    found = {(one.extra["source_id"], one.pair.candidate) for one in made}
    others = {"office,pens", "office,desks"}
    assert {path for source, path in found if source == "1"} == {*others, "home,blue,cups", "home,blue,cups,tall"}
    assert {path for source, path in found if source == "2"} == {*others, "sport,red,shoes", "sport", "office,shoes"}
    assert (report.candidates, report.extra_candidates) == (7, 5)


def test_a_blank_further_candidate_is_refused():
    with pytest.raises(InputError, match="extra candidate 2 of 2 is blank"):
        sample(shop_rows(), extra_candidates=["office,pens", " "])


def test_a_rate_of_a_language_without_rows_is_refused():
    with pytest.raises(ConfigError, match="no row is in 'sw'; expected one of de, en"):
        sample(shop_rows(), language_rates={"sw": 0.5})


def test_none_changes_nothing():
    made, report = sample(shop_rows(), strategy="none")
    assert made == []
    assert (report.rows_in, report.rows_out, report.made) == (88, 88, 0)


def shoes_are_relevant(rows):
    """A filter that takes everything in shoes, and all positives, for relevant."""
    return np.array([3.0 if one.label or one.pair.candidate.endswith("shoes") else -3.0 for one in rows])


def test_a_vet_takes_false_negatives_away_and_others_take_their_place():
    plain, _ = sample(shop_rows(), strategy="random", negative_rate=0.4)
    vetted, report = sample(shop_rows(), strategy="random", negative_rate=0.4, vet=shoes_are_relevant)
    assert any(one.pair.candidate.endswith("shoes") for one in plain)
    assert not any(one.pair.candidate.endswith("shoes") for one in vetted)
    assert len(plain) == len(vetted) == len({one.extra["source_id"] for one in vetted})
    assert report.rejected()["vet"] > 0


@pytest.mark.parametrize("leaning", [0.0, 8.0])
@pytest.mark.parametrize(("margin", "with_shoes"), [(0.0, {"en", "de"}), (0.5, {"de"}), (2.0, set())])
def test_a_negative_is_a_margin_below_its_own_positive_whatever_the_models_rate_of_yes(margin, with_shoes, leaning):
    positives = []

    def vet(rows):
        positives.extend(one.id for one in rows if one.label)
        own = {"en": 1.2, "de": 2.5}
        shoes = [1.0 if one.pair.candidate.endswith("shoes") else -3.0 for one in rows]
        logits = [own[one.pair.language] if one.label else s for one, s in zip(rows, shoes, strict=True)]
        return np.array(logits) + leaning

    made, _ = sample(shop_rows(), strategy="random", per_positive=2, vet=vet, vet_margin=margin)
    assert {one.pair.language for one in made if one.pair.candidate.endswith("shoes")} == with_shoes
    assert {one.pair.language for one in made} == {"en", "de"}
    assert len(positives) == len(set(positives)) == 80


# Wrong input.


def test_where_no_negative_is_possible_the_reasons_are_named():
    rows = [row("shoes", "a,b"), row("shoes", "c,d", id="2")]
    with pytest.raises(ConfigError, match=r"none of the 2 wanted .* 2 candidates \(4 known_positive, 2 nothing_left\)"):
        sample(rows, strategy="random", per_positive=1)


def test_rows_without_a_positive_are_refused():
    with pytest.raises(InputError, match="none of 1 rows is positive"):
        sample([row("shoes", "a,b", 0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "softer"}, "'hard'"),
        ({"negative_rate": 0.2, "per_positive": 1}, "expected one of them"),
        ({"language_rates": {"de": 0.2}, "per_positive": 1}, "expected one of them"),
        ({"language_rates": {"de": 1.5}}, "less than 1"),
        ({"strategy": "random", "band_low": 0.1}, "expected easy or hard"),
        ({"band_low": 0.5, "band_high": 0.4}, "low below high"),
        ({"negative_rate": 1.0}, "less than 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NegativeOptions(**options)


def test_a_report_survives_json():
    _, report = sample(shop_rows(), strategy="mixed")
    assert NegativesReport.model_validate_json(report.model_dump_json()) == report
    assert sum(report.similarity.negatives) == report.made
    assert f"{report.made} negatives made" in report.text()
