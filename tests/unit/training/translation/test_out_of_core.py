"""Translation of rows on disk: results are those of the code that held all rows, whatever the number of buckets."""

import hashlib
import json
import random

import numpy as np
import pytest

from relevance.tasks import LabeledPair, Pair
from training.data.stored import samples, spool, text_hashes
from training.data.stored.samples import spread_samples
from training.data.stored.text_hashes import TextHashes
from training.endpoint.budget import Cost
from training.translation import augment as stage
from training.translation import gates, judged, sources
from training.translation.augment import augment
from training.translation.backends.memory import MemoryTranslator
from training.translation.backends.memory_files import Unit
from training.translation.chain import TranslatorChain
from training.translation.options import GateOptions, TranslationOptions

WORDS = ["red", "blue", "shoe", "lamp", "cup", "Bosch", "iPhone", "table", "old", "12", "5 cm", "home", "tea"]
FREE = {"language": False, "length_ratio": None, "script": False}


def noisy(count, seed=2):
    """Rows whose queries and ids repeat, with translations and negatives among them, and merged rows."""
    chance = random.Random(seed)
    rows = []
    for at in range(count):
        query = " ".join(chance.choices(WORDS, k=chance.randrange(1, 4)))
        pair = Pair(query, f"home,{chance.choice('abc')}", chance.choice(["en", "en", "en", "de", "fr", "unk"]))
        name = chance.choice([f"r{at}", f"r{at}", f"r{chance.randrange(count)}", f"r{chance.randrange(count)}~it"])
        extras = [{}, {}, {"label_share": 0.5, "merged_ids": [f"r{at}-m"], "tagged_language": "fr"}]
        extras += [{"source": chance.choice(["translation", "negative"]), "source_id": f"r{chance.randrange(count)}"}]
        rows.append(LabeledPair(pair, int(chance.random() < 0.7), name, chance.choice(extras)))
    return rows


def memory():
    """A memory in which some translations are missing, copies, queries of others, or without their number."""
    units = []
    for first in WORDS:
        for second in ["", *WORDS]:
            text, chance = f"{first} {second}".strip(), random.Random(f"{first}/{second}")
            for target in ("it", "pl"):
                kinds = [f"{target} {text}", f"{target} {text}", text, f"{second} {first}".strip(), "tea cup", None]
                translation = chance.choice([*kinds, f"{target} {first} 7"])
                if translation is not None:
                    units.append(Unit(dict.fromkeys(("en", "fr"), text) | {target: translation}, None))
    return MemoryTranslator(units)


class Slow:
    """Puts a word in front of the texts that the memory lacks."""

    name, key, batch_size, cost = "slow", None, 7, Cost()

    def supports(self, source, target):
        return source != "de"

    def translate(self, texts, source, target):
        return [f"{target} {text}" if len(text) % 3 else None for text in texts]


class Hashed:
    """Draws a vector by the text."""

    def embed(self, texts):
        drawn = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return np.array([each / np.linalg.norm(each) for each in drawn], dtype=np.float32)


OPTIONS = {
    "all": {},
    "some": {"rows_per_language": 60, "seed": 3},
    "balanced": {"positive_share": 0.5, "sources": "all"},
    "few": {"rows_per_language": 90, "positive_share": 0.3, "sources": "most_frequent"},
    "copies": {"gates": GateOptions(**FREE, copy_through=0.3, digits=False)},
    "similar": {"rows_per_language": 50, "gates": GateOptions(**FREE, similarity=-0.2, round_trip=0.2)},
}
# Of commit 75f2f8f, which held all rows as Python objects.
EXPECTED = {
    "all": "fd3234877b663870",
    "some": "c8a36bec5904faa1",
    "balanced": "74ec7269fe96e6fa",
    "few": "546343c86f04c408",
    "copies": "5103ce3a888aa7e5",
    "similar": "f4b1cb9b6b583428",
}


def results(name):
    """Return the rows made, the report and what was rejected, as text."""
    options = TranslationOptions(targets=("it", "pl"), **({"gates": GateOptions(**FREE)} | OPTIONS[name]))
    rejections = []
    rows, report = augment(
        noisy(400),
        options,
        TranslatorChain([memory(), Slow()]),
        held_out=[*noisy(12, seed=5), *(LabeledPair(Pair(f"IT  {word} tea", "a", "it"), 1, word) for word in WORDS)],
        embedder=Hashed(),
        on_rejected=rejections.append,
    )
    facts = [[row.id, list(row.pair.__getstate__()), row.label, row.extra] for row in rows]
    counts = report.model_dump(mode="json", exclude={"seconds", "texts_per_second"})
    return json.dumps([facts, counts, [each.model_dump() for each in rejections]])


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", OPTIONS)
def test_results_are_those_of_the_code_that_held_all_rows(name):
    assert digest(results(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_results_do_not_depend_on_how_many_rows_are_in_memory(name, monkeypatch):
    monkeypatch.setattr(spool, "BUCKET_ROWS", 30)
    monkeypatch.setattr(judged, "_HELD_ROWS", 3)
    monkeypatch.setattr(sources, "_READ_ROWS", 5)
    monkeypatch.setattr(samples, "_PIECE_ROWS", 2)
    monkeypatch.setattr(text_hashes, "_RECENT", 7)
    assert digest(results(name)) == EXPECTED[name]


def test_a_round_of_other_size_still_makes_each_row_once(monkeypatch):
    monkeypatch.setattr(stage, "_ROUND_ROWS", 7)
    monkeypatch.setattr(gates, "_KEPT_VERDICTS", 5)
    facts, counts, rejections = json.loads(results("all"))
    assert len({row[0] for row in facts[400:]}) == len(facts) - 400 == counts["made"] > 200
    for target in counts["languages"]:
        of_target = sum(each["target"] == target["target"] for each in rejections)
        assert target["tried"] == target["made"] + target["untranslated"] + target["trimmed"] + of_target
        assert target["tried"] == target["eligible"]


def test_hashes_know_the_texts_that_were_added_and_no_others(monkeypatch):
    monkeypatch.setattr(text_hashes, "_RECENT", 5)
    texts = TextHashes()
    for number in [*range(0, 40, 2), *range(0, 40, 2)]:
        texts.add(f"text {number}")
        assert f"text {number}" in texts
    assert [number for number in range(60) if f"text {number}" in texts] == list(range(0, 40, 2))
    assert "text" not in texts


def test_a_sample_is_spread_over_the_sorted_texts_of_its_kind():
    texts = [("a", f"{n:03}") for n in (*range(0, 100, 2), *range(99, 0, -2), 7, 8)] + [("b", "x"), ("b", "y")]
    assert spread_samples(texts, 10) == {"a": [f"{n:03}" for n in range(0, 100, 10)], "b": ["x", "y"]}
    assert spread_samples([], 10) == {}
