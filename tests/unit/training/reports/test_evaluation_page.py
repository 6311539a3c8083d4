"""`relevance evaluate` with --against and --page, over tiny bundles: what is in JSON is on the page."""

import json
import re

import pytest

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from tests.tiny import tiny_bundle
from training.commands.models.evaluate import evaluate
from training.data.splits import write_pairs

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def rows():
    made = [
        LabeledPair(Pair(f"query {i // 4}", f"goods,thing {i % 7},{i}", "de" if i % 8 > 3 else "en"), i % 3 % 2, str(i))
        for i in range(120)
    ]
    return [
        *made,
        LabeledPair(Pair("靴 حذاء", HOSTILE, "ja"), 0, "h"),
        LabeledPair(Pair(HOSTILE, "goods", "ja"), 1, "i"),
    ]


@pytest.fixture
def folder(tmp_path):
    for name, seed in (("model", 0), ("other", 1)):
        tiny_bundle(tmp_path / name, seed=seed)
    tiny_bundle(tmp_path / "items", Task.QI)
    write_pairs(tmp_path / "rows.jsonl", rows(), Task.QC)
    return tmp_path


def test_the_page_and_the_json_tell_the_same(folder, capsys):
    page = folder / "page.html"
    evaluate(folder / "model", folder / "rows.jsonl", against=[folder / "other"], page=page, as_json=True)
    found = json.loads(capsys.readouterr().out)
    text = page.read_text()
    (comparison,) = found["comparisons"]
    assert comparison["folder"] == str(folder / "other")
    assert comparison["verdict"] in ("better", "same", "worse")
    analysis = found["analysis"]
    assert sum(part["rows"] for part in analysis["depths"].values()) == 122
    assert sum(part["rows"] for part in analysis["query_tokens"].values()) == 122
    shown = [
        found["all"]["auc"]["value"],
        found["ranking"]["all"]["ndcg_at_10"]["value"],
        analysis["calibration"]["ece"],
    ]
    shown += [comparison[name]["other"] for name in ("auc", "f1", "ndcg_at_10")]
    shown += [part["f1"]["value"] for part in analysis["depths"].values()]
    shown += [point["ndcg_at_10"]["value"] for point in analysis["budget"]["points"]]
    for value in shown:
        assert f"{value:.3f}" in text
    for mistake in analysis["mistakes"]:
        assert mistake["label"] != (mistake["score"] >= mistake["threshold"])
    assert analysis["mistakes"]
    largest = analysis["mistakes"][0]["effects"][0]
    assert f"{largest['word']}</bdi> {largest['change']:+.2f}" in text


def test_the_page_loads_nothing_and_escapes_what_the_data_holds(folder):
    page = folder / "page.html"
    evaluate(folder / "model", folder / "rows.jsonl", against=[folder / "other"], page=page)
    text = page.read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "url(" not in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert text.count("<svg") == 7  # differences, languages, depths, lengths, calibration, threshold, budget


def test_the_verdict_is_printed(folder, capsys):
    (folder / "model").rename(folder / "model[red]")  # no markup of the terminal
    evaluate(folder / "model[red]", folder / "rows.jsonl", against=[folder / "model[red]", folder / "other"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"is the same as {folder / 'model[red]'}: AUC +0.000 [+0.000, +0.000] includes 0" in shown
    assert shown.count(f"{folder / 'other'}: AUC ") == 1


def test_a_file_without_lists_is_named_and_has_a_page(folder, caplog):
    alone = [LabeledPair(Pair(f"query {i}", f"goods,thing {i}", "en"), i % 2, str(i)) for i in range(60)]
    write_pairs(folder / "alone.jsonl", alone, Task.QC)
    evaluate(folder / "model", folder / "alone.jsonl", page=folder / "page.html")
    assert "alone.jsonl: no query has several candidates, so there are no ranking metrics" in caplog.text
    assert "nothing to rank" in (folder / "page.html").read_text()


def test_queries_of_one_label_each_are_named(folder, caplog):
    twins = [LabeledPair(Pair(f"query {i // 2}", f"goods,thing {i}", "en"), i // 2 % 2, str(i)) for i in range(60)]
    write_pairs(folder / "twins.jsonl", twins, Task.QC)
    evaluate(folder / "model", folder / "twins.jsonl", page=folder / "page.html")
    assert "30 queries have several candidates, each query's all of one label" in caplog.text
    assert "every order is right" in (folder / "page.html").read_text()


def test_bad_input_is_named_before_anything_is_scored(folder):
    given = (folder / "model", folder / "rows.jsonl")
    with pytest.raises(InputError, match=r"--against .*items: a model for task qi; expected one for qc"):
        evaluate(*given, against=[folder / "items"], page=folder / "page.html")
    assert not (folder / "page.html").exists()
    with pytest.raises(InputError, match=r"ends in \.html"):
        evaluate(*given, page=folder / "page.txt")
    with pytest.raises(InputError, match=r"lies in the input"):
        evaluate(*given, page=folder / "model/reports/page.html")  # a bundle is complete
    (folder / "page.html").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        evaluate(*given, page=folder / "page.html")
    assert (folder / "page.html").read_text() == "mine"
    evaluate(*given, page=folder / "page.html", overwrite=True)
    assert "<svg" in (folder / "page.html").read_text()


def test_rows_without_a_positive_one_have_a_page_without_f1(folder, capsys):
    none = [LabeledPair(Pair(f"query {i}", f"goods,thing {i}", "en"), 0, str(i)) for i in range(30)]
    write_pairs(folder / "none.jsonl", none, Task.QC)
    evaluate(folder / "model", folder / "none.jsonl", page=folder / "page.html")
    text = (folder / "page.html").read_text()
    assert "F1 -" in text
    assert "F1 over the threshold" not in text
    assert "0.000" not in capsys.readouterr().out
