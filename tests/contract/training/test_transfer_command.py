"""The `transfer` command: real files, a real (tiny, random) encoder and checkpoint, clear refusals."""

import json

import pytest

from relevance.errors import ConfigError, InputError
from relevance.model.card import sigmoid
from relevance.tasks import LabeledPair, Pair, Task
from tests.contract.training.test_negatives_command import folder, labelled
from training.commands.rows.transfer import transfer
from training.data.dataset import read_pairs
from training.data.splits import write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation.report import score_logits
from training.fitting.recipe import Recipe

__all__ = ["folder"]
MEMORY = [
    {"language": "en", "text": f"{each} of tin", "translations": {"de": f"{each} aus blech", "pl": f"{each} z blachy"}}
    for each in ("cups", "shoes", "lamps", "balls")
]


@pytest.fixture
def memory(tmp_path):
    path = tmp_path / "memory.jsonl"
    path.write_text("".join(f"{json.dumps(unit)}\n" for unit in MEMORY), encoding="utf-8")
    return path


def run(folder, out, memory, **options):
    given = {"targets": ["de", "pl"], "per_text": 4, "base_model": str(folder / "encoder"), "memory": [memory]}
    given |= {"teacher": folder / "checkpoint", "task": Task.QC}
    transfer(folder / "train.jsonl", out, **given | options)


def test_rows_have_the_teachers_scores_and_a_model_trains_on_them(folder, tmp_path, memory, capsys):
    out, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    run(folder, out, memory, report=report, as_json=True)
    rows = read_pairs(out, Task.QC).rows
    before = read_pairs(folder / "train.jsonl", Task.QC).rows
    made = rows[len(before) :]
    found = json.loads(report.read_text())
    assert rows[: len(before)] == before
    assert json.loads(capsys.readouterr().out) == found
    assert sum(found["made"].values()) == len(made) > 8
    assert {row.pair.language for row in made} == {"de", "pl"}
    asked = [LabeledPair(Pair(row.extra["translation_of"], row.pair.candidate, "en"), 0, row.id) for row in made]
    shares = [float(row.extra["label_share"]) for row in made]
    assert shares == pytest.approx(sigmoid(score_logits(folder / "checkpoint", asked)[1]).tolist(), abs=1e-3)
    settings = {"epochs": 1, "batch_size": 16, "evaluations": 1}
    recipe = Recipe.model_validate(
        {"name": "tiny", "task": "qc", "base_model": str(folder / "encoder"), "training": settings}
    )
    train(Job(recipe, rows, labelled(24, 100), tmp_path / "student"))
    assert (tmp_path / "student" / "card.json").is_file()


def test_a_rerun_gives_the_same_bytes(folder, tmp_path, memory):
    for name in ("a.jsonl", "b.jsonl"):
        run(folder, tmp_path / name, memory, cache=tmp_path / "cache")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_queries_of_dev_are_kept_out(folder, tmp_path, memory):
    dev = [LabeledPair(Pair("cups aus blech", "home,cups", "de"), 1, "d")]
    write_pairs(tmp_path / "dev.jsonl", dev, Task.QC)
    run(folder, tmp_path / "out.jsonl", memory, keep_out=[tmp_path / "dev.jsonl"])
    queries = {row.pair.query for row in read_pairs(tmp_path / "out.jsonl", Task.QC).rows}
    assert "cups z blachy" in queries
    assert "cups aus blech" not in queries


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["ja"]}, "none of 4 texts in en can be used.*4 have no translation into ja"),
        ({"source_language": "fr"}, "none of 0 texts in fr can be used"),
        ({"task": Task.QI}, "teacher .*checkpoint: is a model for qc; expected one for qi"),
        ({"report": "report.txt"}, "report.txt"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(folder, tmp_path, memory, options, message):
    given = {name: tmp_path / value if name == "report" else value for name, value in options.items()}
    with pytest.raises((ConfigError, InputError), match=message):
        run(folder, tmp_path / "out.jsonl", memory, **given)
    assert not (tmp_path / "out.jsonl").exists()


def test_broken_lines_of_a_memory_are_named_together(folder, tmp_path, memory):
    memory.write_text(memory.read_text() + "no json\n{}\n")
    with pytest.raises(InputError, match="2 bad of 6 rows"):
        run(folder, tmp_path / "out.jsonl", memory)
    run(folder, tmp_path / "out.jsonl", memory, skip_bad_units=True)
    assert (tmp_path / "out.jsonl").is_file()
