"""The `align` command: real files, a real (tiny, random) encoder, a model made of its result, clear refusals."""

import json

import pytest

from relevance.errors import ConfigError, InputError
from relevance.model.card import ModelCard
from relevance.tasks import LabeledPair, Pair, Task
from tests.contract.training.test_negatives_command import labelled
from tests.models import tiny_model
from training.commands.models.align import align
from training.commands.models.train import encoder
from training.data.splits import write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.recipe import Recipe
from training.models.base.base_models import resolve_base_model

WORDS = {"cups": "tassen", "shoes": "schuhe", "lamps": "lampen", "balls": "bälle"}
STUFFS = {"tin": "blech", "wood": "holz", "glass": "glas", "paper": "papier"}


@pytest.fixture
def memory(tmp_path):
    path = tmp_path / "memory.tsv"
    lines = [f"{word} of {stuff}\t{WORDS[word]} aus {STUFFS[stuff]}" for word in WORDS for stuff in STUFFS]
    path.write_text("en\tde\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("base") / "encoder"))


def test_a_model_with_a_kernel_head_is_made_from_an_aligned_encoder(base, memory, tmp_path, capsys):
    out, report = tmp_path / "aligned", tmp_path / "report.json"
    align(base, out, memory=[memory], layers=1, batch_size=4, report=report, as_json=True)
    found = json.loads(report.read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert (found["pairs"], found["measured"], found["held_out"]) == ({"de": 15}, 1, 0)
    head, settings = {"kind": "kernel", "width": 8}, {"epochs": 0}
    recipe = {"name": "tiny", "task": "qc", "base_model": str(out), "head": head, "training": settings}
    train(Job(Recipe.model_validate(recipe), labelled(32), labelled(24, 100), tmp_path / "model"))
    assert ModelCard.load(tmp_path / "model").base_model.endswith("(aligned)")
    encoder(str(out), tmp_path / "again", layers=1)
    assert resolve_base_model(str(tmp_path / "again")).name.endswith("(aligned)")


def test_queries_of_dev_are_kept_out(base, memory, tmp_path):
    write_pairs(tmp_path / "dev.jsonl", [LabeledPair(Pair("cups of tin", "home,cups", "en"), 1, "d")], Task.QC)
    report = tmp_path / "report.json"
    given = {"memory": [memory], "batch_size": 4, "report": report, "keep_out": [tmp_path / "dev.jsonl"]}
    align(base, tmp_path / "out", **given, task=Task.QC)
    assert json.loads(report.read_text())["held_out"] == 1
    with pytest.raises(ConfigError, match="--keep-out without --task"):
        align(base, tmp_path / "other", **given | {"report": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 99}, "15 pairs .* expected at least batch_size = 99"),
        ({"layers": 7, "batch_size": 4}, "layers 7: .* has 2"),
        ({"report": "report.txt"}, "report.txt"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(base, memory, tmp_path, options, message):
    given = {name: tmp_path / value if name == "report" else value for name, value in options.items()}
    with pytest.raises((ConfigError, InputError), match=message):
        align(base, tmp_path / "out", memory=[memory], **given)
    with pytest.raises(ConfigError, match="no such folder"):
        align("./nowhere", tmp_path / "out", memory=[memory])
    assert not (tmp_path / "out").exists()


def test_broken_lines_of_a_memory_are_named_together(base, memory, tmp_path, caplog):
    memory.write_text(memory.read_text() + "one\n" * 2)
    with pytest.raises(InputError, match="2 bad of 18 rows"):
        align(base, tmp_path / "out", memory=[memory], batch_size=4)
    (tmp_path / "out").mkdir()  # an empty folder counts as absent
    align(base, tmp_path / "out", memory=[memory], batch_size=4, skip_bad_units=True)
    assert "2 of 18 units left out; the first: " in caplog.text
    assert (tmp_path / "out" / "config.json").is_file()
