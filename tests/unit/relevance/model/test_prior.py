import math

import numpy as np
import pytest
from pydantic import ValidationError

from relevance.errors import CheckpointError
from relevance.model.card import ModelCard
from relevance.model.heads import HeadKind, HeadSpec
from relevance.model.inputs import PairInputs
from relevance.model.prior import NO_EVIDENCE, PRIOR_FILE, CategoryPrior
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.tokenization import PairTokenizer
from tests.tiny import MAX_LENGTH, PAD_ID, tiny_tokenizer

PATHS = [["Home", "Cups"], ["home", "cups"], ["Home", "Pans"], ["Toys"]]
PRIOR = CategoryPrior.of(PATHS, [1, 0.5, 0, 0], [1, 2, 1, 1], folds=5, strength=2.0)
TOKENIZER = PairTokenizer(tiny_tokenizer(), MAX_LENGTH, PAD_ID)


def log_odds(rate):
    return math.log(rate / (1 - rate))


def test_counts_are_weighted_and_levels_casefolded():
    assert PRIOR.counts == {"": (2, 5), "home": (2, 4), "home\ncups": (2, 3), "home\npans": (0, 1), "toys": (0, 1)}
    assert (PRIOR.paths, PRIOR.rows) == (4, 5)


def test_features_by_hand():
    overall = 3 / 7  # one positive and one negative row more than counted
    home = (2 + 2 * overall) / (4 + 2)
    cups, pans = (2 + 2 * home) / (3 + 2), (0 + 2 * home) / (1 + 2)
    toys = 2 * overall / (1 + 2)
    top = log_odds(home) - log_odds(overall)
    assert PRIOR.features(["HOME", "Cups"]) == pytest.approx((log_odds(cups) - log_odds(overall), top, top))
    assert PRIOR.features(["Home", "Pans"]) == pytest.approx((log_odds(pans) - log_odds(overall), top, top))
    assert PRIOR.features(["Toys"]) == pytest.approx(
        (log_odds(toys) - log_odds(overall), 0, log_odds(toys) - log_odds(overall))
    )


def test_an_unknown_path_has_the_number_of_its_longest_known_parent():
    leaf, home, _ = PRIOR.features(["Home", "Cups"])
    assert PRIOR.features(["Home", "Cups", "Espresso"]) == (leaf, leaf, home)
    assert PRIOR.features(["Home", "Lamps", "Oil"]) == (home, home, home)
    assert PRIOR.features(["Garden", "Cups"]) == PRIOR.features([]) == NO_EVIDENCE


def test_a_level_that_folds_to_nothing_counts_its_row_once():
    assert CategoryPrior.of([["", "a"]], [1], [1], folds=5).counts == {"": (1, 1), "\na": (1, 1)}


@pytest.mark.parametrize(
    ("counts", "fault"),
    [
        ({"a": (1, 2)}, "''"),
        ({"": (1, 2), "a\nb": (1, 2)}, "without its parent 'a'"),
        ({"": (3, 2)}, "expected 0 <= positive <= rows"),
        ({"": (-1, 2)}, "expected 0 <= positive <= rows"),
        ({"": (float("nan"), 2)}, "expected 0 <= positive <= rows"),
        ({"": (1, float("inf"))}, "expected 0 <= positive <= rows"),
    ],
)
def test_a_damaged_table_is_named(counts, fault):
    with pytest.raises(ValidationError, match=fault):
        CategoryPrior(strength=20, folds=5, counts=counts)


def test_pairs_carry_the_prior_of_their_candidate():
    inputs = PairInputs(Task.QC, PairFormat(), TOKENIZER, prior=PRIOR)
    pairs = [Pair("mug", "Home,Cups"), Pair("mug", "Toys")]
    found = inputs.encode(pairs)
    assert [pair.features for pair in found] == [PRIOR.features(["home", "cups"]), PRIOR.features(["toys"])]
    arrays = TOKENIZER.collate(found)
    assert arrays["features"].dtype == np.float32
    np.testing.assert_allclose(arrays["features"], [pair.features for pair in found], rtol=1e-6)
    assert [pair.features for pair in inputs.encode(pairs, [NO_EVIDENCE] * 2)] == [NO_EVIDENCE] * 2


def test_a_table_of_another_taxonomy_is_found():
    inputs = PairInputs(Task.QC, PairFormat(), TOKENIZER, prior=PRIOR)
    known, unknown = Pair("mug", "HOME,Lamps"), Pair("mug", "Haus > Tassen")
    assert inputs.findings([known] * 20 + [unknown] * 20) == ()
    (finding,) = inputs.findings([known] * 19 + [unknown] * 21)
    assert "no level of 52% of 40 category paths" in finding
    assert inputs.findings([unknown] * 19) == ()  # too few to say
    assert PairInputs(Task.QC, PairFormat(), TOKENIZER).findings([unknown] * 40) == ()


def test_a_model_without_prior_reads_zeros():
    (pair,) = PairInputs(Task.QC, PairFormat(), TOKENIZER).encode([Pair("mug", "Home,Cups")])
    assert pair.features == ()
    assert TOKENIZER.collate([pair])["features"].shape == (1, 0)


@pytest.mark.parametrize("content", [None, "{", '{"strength": 0}', '{"strength": 2, "counts": {"": [0, 0]}, "odd": 1}'])
def test_a_checkpoint_without_its_table_is_named(tmp_path, content):
    head = HeadSpec(kind=HeadKind.MEAN, hidden_size=4, prior=True)
    card = ModelCard(
        **{"name": "card", "task": Task.QC, "format": PairFormat(), "max_length": MAX_LENGTH, "pad_id": PAD_ID},
        **{"head": head, "threshold": 0.5, "base_model": "tiny", "created": "now"},
    )
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    if content is not None:
        (tmp_path / PRIOR_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=r"prior\.json"):
        PairInputs.from_checkpoint(tmp_path, card)
    PRIOR.save(tmp_path)
    assert PairInputs.from_checkpoint(tmp_path, card).prior == PRIOR
