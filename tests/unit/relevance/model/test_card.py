import json

import numpy as np
import pytest
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from relevance.errors import CheckpointError
from relevance.model.card import Calibration, LanguageOffset, ModelCard, explain, score_reference
from relevance.model.heads import HeadSpec
from relevance.text.formatting import PairFormat


def card(**changes):
    fields = {
        "name": "x",
        "task": "qc",
        "format": PairFormat(),
        "max_length": 64,
        "pad_id": 1,
        "head": HeadSpec(kind="stock", hidden_size=8),
        "threshold": 0.4,
        "base_model": "b",
        "created": "now",
    }
    return ModelCard(**fields | changes)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((1, 0), "values.1: Input should be greater than 0, got 0"),
        ((0,), "values.0: Input should be greater than 0, got 0"),
        ((), "values: Tuple should have at least 1 item after validation, not 0, got []"),
    ],
)
def test_a_wrong_value_is_not_told_as_a_missing_one_too(values, told):
    class Options(BaseModel):
        values: tuple[PositiveInt, ...] = Field(min_length=1)

    with pytest.raises(ValidationError) as caught:
        Options(values=list(values))
    assert explain(caught.value) == told


def test_scores_are_the_sigmoid_of_calibrated_logits():
    np.testing.assert_allclose(card().scores([0.0, 2.0]), [0.5, 1 / (1 + np.exp(-2))])
    np.testing.assert_allclose(card(calibration=Calibration(scale=2, offset=-2)).scores([1.0]), [0.5])


def shifted(**offsets):
    by_language = {tag: LanguageOffset(offset=o, own_offset=o, rows=9, source="dev rows") for tag, o in offsets.items()}
    return Calibration(scale=2, offset=-2, by_language=by_language)


def test_an_offset_moves_the_logits_of_its_language_alone():
    tuned = card(calibration=shifted(de=1.0, vi=-3.0))
    logits = tuned.calibration.logits([1.0, 1.0, 1.0, 1.0], ["en", "de", "vn", "DE-at"])
    assert logits.tolist() == [0.0, 1.0, -3.0, 1.0]
    assert tuned.scores([1.0, 2.0], ["unk", "de"]).tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-3))])
    assert tuned.scores([], []).tolist() == []


def test_a_calibration_by_language_needs_the_languages():
    for languages in ((), ("de",)):
        with pytest.raises(ValueError, match="languages for 2 logits; expected one each"):
            card(calibration=shifted(de=1.0)).scores([0.0, 1.0], languages)
    with pytest.raises(ValueError, match="expected one offset each"):
        shifted(pt=1.0, **{"pt-BR": 2.0})


def test_huge_logits_stay_scores():
    assert card().scores([-1e9, 1e9]).tolist() == [pytest.approx(0.0), 1.0]


def test_thresholds_by_language():
    tuned = card(language_thresholds={"vi": 0.7, "pt-BR": 0.6})
    expected = {"vn": 0.7, "pt-BR": 0.6, "PT_pt": 0.6, "pt": 0.6, "en": 0.4, "unk": 0.4, "nonsense": 0.4}
    assert {tag: tuned.threshold_for(tag) for tag in expected} == expected


@pytest.mark.parametrize("tags", [("pt-BR", "pt"), ("he", "iw"), ("xx",), ("",)])
def test_thresholds_that_name_no_language_or_one_twice_are_refused(tags):
    with pytest.raises(ValueError, match="language_thresholds"):
        card(language_thresholds=dict.fromkeys(tags, 0.5))


def test_reference_counts_dev_scores_by_language_where_there_are_enough():
    scores, languages = np.linspace(0, 1, 129), ["en"] * 50 + ["vi"] * 49 + ["es"] * 30
    found = card(**score_reference(scores, languages))
    assert sum(found.score_histogram) == 129
    assert found.language_histograms == {"en": tuple(np.histogram(scores[:50], 20, (0, 1))[0])}
    assert found.dev_rows == {"en": 50, "es": 30, "vi": 49}


@pytest.mark.parametrize("histogram", [(1,) * 19, (1,) * 21, (-1,) * 20])
def test_histogram_of_another_form_is_refused(histogram):
    with pytest.raises(ValueError, match="language_histograms"):
        card(language_histograms={"en": histogram})


def test_a_card_is_read_back(tmp_path):
    card().save(tmp_path)
    assert ModelCard.load(tmp_path) == card()


def test_missing_and_wrong_cards_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no card\.json"):
        ModelCard.load(tmp_path)
    (tmp_path / "card.json").write_text('{"task": "xx"}')
    with pytest.raises(CheckpointError, match=r"task: .*got \"xx\""):
        ModelCard.load(tmp_path)


def test_a_card_of_another_format_is_refused_by_its_version(tmp_path):
    content = card().model_dump(mode="json") | {"format_version": 1, "format": {"fields": "of before"}}
    (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"format_version 1 is unknown; expected 3; .*train the model again"):
        ModelCard.load(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="is no JSON"):
        ModelCard.load(tmp_path)
