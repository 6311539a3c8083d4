"""The `negatives` command: real files, a real (tiny, random) encoder and checkpoint, clear refusals."""

import json
from collections import Counter
from pathlib import Path

import pytest

from relevance.errors import ConfigError, InputError, RelevanceError
from relevance.tasks import LabeledPair, Pair, Task
from tests.commands import relevance
from tests.models import tiny_model
from training.commands.rows.negatives import negatives
from training.data.dataset import read_pairs
from training.data.splits import write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation.report import OpenedModel
from training.fitting.evaluation.scorer import model_scorer
from training.fitting.recipe import Recipe

PATHS = [f"{top},{leaf}" for top in ("home", "sport", "garden") for leaf in ("cups", "shoes", "lamps", "balls")]


def labelled(count, offset=0):
    """Rows whose label says whether the path holds the thing of the query: one in four is negative."""
    made = []
    for n in range(offset, offset + count):
        path, label = PATHS[n % 12], int(n % 4 != 0)
        thing = (path if label else PATHS[(n + 5) % 12]).split(",")[1]
        made.append(LabeledPair(Pair(f"{thing} {n}", path, "de" if n % 3 else "en"), label, str(n)))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of rows, an encoder and a checkpoint."""
    folder = tmp_path_factory.mktemp("negatives")
    write_pairs(folder / "train.jsonl", labelled(60), Task.QC)
    base = tiny_model(folder / "encoder")
    settings = {"epochs": 1, "batch_size": 16, "evaluations": 1}
    recipe = Recipe.model_validate({"name": "tiny", "task": "qc", "base_model": str(base), "training": settings})
    train(Job(recipe, labelled(32), labelled(24, 100), folder / "checkpoint"))
    return folder


def run(folder, out, task=Task.QC, **options):
    negatives(folder / "train.jsonl", out, task, **{"base_model": str(folder / "encoder")} | options)


def test_negatives_are_added_with_a_report(folder, tmp_path, capsys):
    out, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    run(folder, out, negative_rate=0.5, strategy="mixed", report=report, as_json=True)
    before, after = (read_pairs(file, Task.QC).rows for file in (folder / "train.jsonl", out))
    made = after[len(before) :]
    found = json.loads(report.read_text())
    assert after[: len(before)] == before
    assert json.loads(capsys.readouterr().out) == found
    assert 0 < len(made) == found["made"] <= 30
    assert {one.extra["source"] for one in made} == {"negative"}
    assert {one.extra["strategy"] for one in made} <= {"easy", "hard"}


def test_random_negatives_balance_every_language(folder, tmp_path):
    run(folder, tmp_path / "out.jsonl", negative_rate=0.5, strategy="random")
    labels = Counter((row.pair.language, row.label) for row in read_pairs(tmp_path / "out.jsonl", Task.QC).rows)
    assert labels["de", 0] == labels["de", 1] > 0
    assert labels["en", 0] == labels["en", 1] > 0


def test_a_file_of_further_candidates_and_a_rate_of_one_language(folder, tmp_path, capsys):
    further = tmp_path / "taxonomy.txt"
    further.write_text("\ufefftoys,kites\n\n  toys,dolls \ntoys,kites\n", encoding="utf-8")
    options = {"candidates": further, "negative_rate": 0.5, "language_rates": ["de=0.7"], "strategy": "random"}
    run(folder, tmp_path / "out.jsonl", **options, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["candidates"], found["extra_candidates"]) == (14, 2)
    assert found["searches"] == {"exact": found["made"]}
    made = read_pairs(tmp_path / "out.jsonl", Task.QC).rows[60:]
    assert {"toys,kites", "toys,dolls"} < {row.pair.candidate for row in made}
    labels = Counter((row.pair.language, row.label) for row in read_pairs(tmp_path / "out.jsonl", Task.QC).rows)
    assert labels["de", 0] / (labels["de", 0] + labels["de", 1]) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("content", [None, b"\n \n", b"\xff\xfe\xfa"])
def test_a_file_of_candidates_that_is_none_is_named(folder, tmp_path, content):
    file = tmp_path / "taxonomy.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"taxonomy\.txt: .*expected"):
        run(folder, tmp_path / "out.jsonl", candidates=file)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_rerun_gives_the_same_bytes_from_the_cached_embeddings(folder, tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for out in (first, second):
        run(folder, out, cache=tmp_path / "cache", seed=4, negative_rate=0.5)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "cache" / "embeddings.sqlite").is_file()


def test_a_checkpoint_vets_the_negatives_and_its_logits_are_kept(folder, tmp_path, monkeypatch):
    options = {"strategy": "random", "negative_rate": 0.5, "vet": folder / "checkpoint"}
    with pytest.raises(ConfigError, match=r"none of the 30 wanted can be made .* vet"):
        run(folder, tmp_path / "strict.jsonl", **options, vet_margin=50)
    assert not (tmp_path / "strict.jsonl").exists()
    run(folder, tmp_path / "loose.jsonl", **options, vet_margin=0)
    rows = read_pairs(tmp_path / "loose.jsonl", Task.QC).rows
    logits = dict(zip((row.id for row in rows), model_scorer(folder / "checkpoint", Task.QC, "vet")(rows), strict=True))
    made = [row for row in rows if row.extra.get("source") == "negative"]
    assert made
    assert all(logits[row.id] < logits[row.extra["source_id"]] + 1e-4 for row in made)
    before = (tmp_path / "loose.jsonl").read_bytes()
    monkeypatch.setattr(OpenedModel, "logits", None)
    run(folder, tmp_path / "loose.jsonl", **options, vet_margin=0, overwrite=True)
    assert (tmp_path / "loose.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_task_is_refused(folder):
    with pytest.raises(ConfigError, match="is a model for qc; expected one for qi"):
        model_scorer(folder / "checkpoint", Task.QI, "vet")


def test_what_is_missing_is_reported_and_the_rest_kept(folder, tmp_path, caplog):
    run(folder, tmp_path / "out.jsonl", strategy="random", per_positive=12)
    assert "negatives are missing" in caplog.text
    assert (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "harder"}, "strategy: Input should be 'none', 'random', 'easy', 'hard' or 'mixed'"),
        ({"band_low": 0.9, "band_high": 0.1}, "expected low below high"),
        ({"language_rates": ["de"]}, "--language-rate 'de': expected NAME=VALUE, as de=0.4"),
        ({"base_model": "no such/model folder"}, "'no such/model folder': no such folder"),
        ({"vet": Path("no-such-checkpoint")}, "no-such-checkpoint"),
        ({"task": Task.QI}, "item_title"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(folder, tmp_path, options, message):
    with pytest.raises(RelevanceError, match=message):
        run(folder, tmp_path / "out.jsonl", **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_ends_with_a_message_and_leaves_its_input_alone(folder):
    file = folder / "train.jsonl"
    before = file.read_bytes()
    done = relevance("negatives", file, file, "--task", "qc", "--strategy", "hard", "--negative-rate", "0.5")
    assert done.returncode == 2
    assert "expected a place apart from it" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before
