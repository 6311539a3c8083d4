"""No query crosses splits or folds, whatever its case, white space or language, through every stage that makes rows."""

import contextlib
import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.data.groups import linked_groups
from training.negatives.options import NegativeOptions
from training.negatives.sampling import sample_negatives
from training.pipeline.recipe import SplitSection
from training.pipeline.row_stages import Datasets, split_rows
from training.selfvalidation.folds import assign_folds
from training.translation.augment import augment
from training.translation.backends.memory import MemoryTranslator
from training.translation.chain import TranslatorChain
from training.translation.options import GateOptions, TranslationOptions

WORDS = ("red shoes", "blue cup", "lamp", "garden hose", "usb cable", "winter coat", "tea", "chair", "bed", "ring")
PATHS = [f"{top},{leaf}" for top in ("home", "sport", "garden") for leaf in ("one", "two", "three", "four")]
SPELLINGS = (
    str,
    str.upper,
    str.title,
    lambda text: f"  {text.replace(' ', '   ')} ",
    lambda text: text.replace(" ", " "),
)


class Hashed:
    """Vectors that follow from the text's hash."""

    name = "hashed"

    def embed(self, texts, prefix):
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        made = np.array([np.random.default_rng(seed).normal(size=6) for seed in seeds], dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


@st.composite
def row_sets(draw):
    """Rows of ten queries under several spellings and in translation, some of them made of others."""
    rows = []
    for n in range(draw(st.integers(60, 120))):
        word = draw(st.sampled_from(WORDS)) if n >= 20 else WORDS[n % 10]
        spelled = draw(st.sampled_from(SPELLINGS))(word)
        extra = {}
        if n >= 20 and draw(st.integers(0, 3)) == 0:
            source = rows[draw(st.integers(0, 19))]
            key = query_key(source.pair.query)
            spelled, extra = f"übersetzt {key}", {"source": "translation", "source_id": source.id}
        label = n % 2 if n < 20 else draw(st.integers(0, 1))
        rows.append(LabeledPair(Pair(spelled, draw(st.sampled_from(PATHS)), "en"), label, str(n), extra))
    return rows


def translator(folder):
    """A memory that knows every word."""
    file = folder / "memory.tsv"
    file.write_text("en\tde\n" + "".join(f"{word}\tdeutsch {word}\n" for word in WORDS), encoding="utf-8")
    return MemoryTranslator.from_files([file])


def assert_apart(parts):
    """Fail where a group, linked over all parts together, has rows in two of them."""
    everything = [row for part in parts for row in part]
    groups = iter(linked_groups(everything))
    sets = [{next(groups) for _ in part} for part in parts]
    for n, one in enumerate(sets):
        for other in sets[n + 1 :]:
            assert not one & other


@settings(max_examples=60, deadline=None)
@given(rows=row_sets(), seed=st.integers(0, 5), given_test=st.booleans())
def test_no_query_crosses_splits_or_folds_through_every_stage(tmp_path_factory, rows, seed, given_test):
    test = [row for row in rows if query_key(row.pair.query) == "tea"] if given_test else []
    test = [LabeledPair(row.pair, row.label, f"t{row.id}") for row in test]
    try:
        data, _ = split_rows(Datasets(rows, [], test), rows, SplitSection(dev=0.25, test=0.25, seed=seed))
    except InputError:  # all groups hang together, so that there are too few to split
        return
    assert_apart([data.train, data.dev, data.test])
    options = TranslationOptions(targets=("de",), gates=GateOptions(similarity=None, language=False))
    memory = translator(tmp_path_factory.mktemp("memory"))
    translated, _ = augment(data.train, options, TranslatorChain([memory]), held_out=data.held_out)
    assert_apart([translated, data.dev, data.test])
    if any(row.label for row in translated):
        strategy = NegativeOptions(strategy="random", per_positive=1, seed=seed)
        with contextlib.suppress(ConfigError):  # rows that hold every candidate leave none to make a negative of
            translated, _ = sample_negatives(translated, Task.QC, strategy, Hashed())
        assert_apart([translated, data.dev, data.test])
    try:
        folds = assign_folds(translated, 2, seed)
    except InputError:
        return
    assert_apart([[row for row, fold in zip(translated, folds, strict=True) if fold == n] for n in (0, 1)])
