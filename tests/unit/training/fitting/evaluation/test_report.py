"""What `evaluate` measures is what the service would answer."""

import json
import logging

import numpy as np
import pytest

from relevance.evaluation.metrics import f1
from relevance.model.card import ModelCard
from relevance.tasks import LabeledPair, Pair, Task
from tests.tiny import tiny_bundle
from training.commands.models.evaluate import evaluate
from training.data.splits import write_pairs
from training.fitting.evaluation.report import OpenedModel, report_model


def rows(count=120):
    made = []
    for i in range(count):
        language = "ja" if i % 2 else "en"
        extra = {"source_id": str(i - 1), "source": "translation"} if i % 2 else {}
        made.append(
            LabeledPair(Pair(f"query {i} {language}", f"goods,thing {i % 7}", language), int(i % 3 > 0), str(i), extra)
        )
    return made


@pytest.fixture
def bundle(tmp_path):
    tiny_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_thresholds_of_languages_decide_as_they_do_in_the_service(bundle):
    card = OpenedModel.open(bundle).card
    assert card.language_thresholds == {"ja": 0.9}
    some = rows()
    scores = card.scores(OpenedModel.open(bundle).logits(some))
    report = report_model(some, scores, card)
    labels = [row.label for row in some]
    japanese = np.array([row.pair.language == "ja" for row in some])
    expected = f1(np.array(labels)[japanese], scores[japanese] >= 0.9)
    assert report.languages["ja"].f1.value == expected
    other = card.model_copy(update={"language_thresholds": {"ja": 0.0}})
    assert report_model(some, scores, other).languages["ja"].f1.value != expected
    languages = [row.pair.language for row in some]
    np.testing.assert_array_equal(card.labels(scores, languages), scores >= card.thresholds(languages))


def test_a_query_and_its_translations_are_resampled_together(bundle):
    card = OpenedModel.open(bundle).card
    assert report_model(rows(), np.linspace(0, 1, 120), card).all.queries == 60


def test_bundles_are_evaluated_and_say_how_many_pairs_were_cut(bundle, tmp_path, caplog, capsys):
    long = [LabeledPair(Pair("q" * 200, "cups", "en"), 1, "a"), LabeledPair(Pair("q", "c" * 200, "en"), 0, "b")]
    write_pairs(tmp_path / "rows.jsonl", [*rows(), *long], Task.QC)
    with caplog.at_level(logging.INFO):
        evaluate(bundle, tmp_path / "rows.jsonl", as_json=True)
    assert json.loads(capsys.readouterr().out)["all"]["rows"] == 122
    told = "2 of 122 pairs (1.6 %) are longer than 96 tokens and were cut: origin_query in 1, category_path in 1"
    assert told in caplog.text


def test_a_card_says_what_its_metrics_are_of_and_reads_its_sources(tmp_path, bundle):
    card = OpenedModel.open(bundle).card
    source = {"method": "matched", "source": "dev rows, their labels unused", "rows": 60, "positive_share": 0.7}
    kept = ModelCard.model_validate(
        {name: value for name, value in card.model_dump().items() if name in ModelCard.model_fields}
        | {"threshold_sources": {"ja": source}, "metrics_on": "dev", "findings": ("all pairs: x",), "cosine_auc": 0.6}
    )
    kept.save(tmp_path)
    assert ModelCard.load(tmp_path) == kept


def test_candidates_of_one_query_are_ranked_and_shown(bundle, tmp_path, capsys):
    listed = [
        LabeledPair(Pair(f"query {i // 4}", f"goods,thing {i}", "en"), int(i % 4 > 1), str(i), {"grade": i % 4})
        for i in range(40)
    ]
    write_pairs(tmp_path / "rows.jsonl", [*listed, LabeledPair(Pair("alone", "goods", "ja"), 1, "a")], Task.QC)
    evaluate(bundle, tmp_path / "rows.jsonl", as_json=True)
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert (ranking["all"]["queries"], ranking["all"]["single"], list(ranking["languages"])) == (10, 1, ["en"])
    assert ranking["gains"] == "label"  # the last row has no grade
    write_pairs(tmp_path / "graded.jsonl", listed, Task.QC)
    evaluate(bundle, tmp_path / "graded.jsonl")
    shown = capsys.readouterr().out
    assert "nDCG@10" in shown
    assert "gains by grade" in shown
    write_pairs(tmp_path / "alone.jsonl", rows(), Task.QC)
    evaluate(bundle, tmp_path / "alone.jsonl")
    assert "nDCG" not in capsys.readouterr().out
