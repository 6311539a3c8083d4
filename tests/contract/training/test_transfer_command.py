"""The `transfer` command: real files, a real (tiny, random) encoder and checkpoint, clear refusals."""

import json
import shutil

import pytest

from relevance.errors import CheckpointError, ConfigError, InputError
from relevance.model.card import Calibration, ModelCard
from relevance.tasks import LabeledPair, Pair, Task
from tests.cascades import tiny_cascade
from tests.commands import relevance
from tests.contract.training.test_negatives_command import folder, labelled
from training.commands.rows.transfer import transfer
from training.data.dataset import read_pairs
from training.data.splits import write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation import scorer
from training.fitting.evaluation.report import OpenedModel, score_rows
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


def run(folder, out, memory, file=None, **options):
    given = {"targets": ["de", "pl"], "per_text": 4, "base_model": str(folder / "encoder"), "memory": [memory]}
    given |= {"teacher": folder / "checkpoint", "task": Task.QC}
    transfer(file or folder / "train.jsonl", out, **given | options)


def calibrated(checkpoint, out):
    """Write a copy of a checkpoint that is calibrated, as the pipeline does."""
    shutil.copytree(checkpoint, out)
    card = ModelCard.load(out)
    card.model_copy(update={"calibration": Calibration(scale=0.5, offset=1.0)}).save(out)
    return out


def scores(teacher, made):
    """Return a model's scores of the source texts of rows."""
    asked = [LabeledPair(Pair(row.extra["translation_of"], row.pair.candidate, "en"), 0, row.id) for row in made]
    return score_rows(teacher, asked)[1].tolist()


def shares(made):
    return [float(row.extra["label_share"]) for row in made]


def test_rows_have_the_teachers_scores_and_a_model_trains_on_them(folder, tmp_path, memory, capsys):
    out, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    teacher = calibrated(folder / "checkpoint", tmp_path / "teacher")
    run(folder, out, memory, report=report, as_json=True, teacher=teacher)
    rows = read_pairs(out, Task.QC).rows
    before = read_pairs(folder / "train.jsonl", Task.QC).rows
    made = rows[len(before) :]
    found = json.loads(report.read_text())
    assert rows[: len(before)] == before
    assert json.loads(capsys.readouterr().out) == found
    assert sum(found["made"].values()) == len(made) > 8
    assert {row.pair.language for row in made} == {"de", "pl"}
    assert shares(made) == pytest.approx(scores(teacher, made), abs=1e-3)
    settings = {"epochs": 1, "batch_size": 16, "evaluations": 1}
    recipe = Recipe.model_validate(
        {"name": "tiny", "task": "qc", "base_model": str(folder / "encoder"), "training": settings}
    )
    train(Job(recipe, rows, labelled(24, 100), tmp_path / "student"))
    assert (tmp_path / "student" / "card.json").is_file()


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(folder, tmp_path, memory, monkeypatch):
    monkeypatch.setattr(scorer, "CHUNK_PAIRS", 4)
    asked, real = [], OpenedModel.logits

    def logits(model, rows, name):
        asked.append(len(rows))
        if len(asked) == dies_at:
            raise KeyboardInterrupt
        return real(model, rows, name)

    monkeypatch.setattr(OpenedModel, "logits", logits)
    dies_at = 0
    run(folder, tmp_path / "whole.jsonl", memory)
    whole, dies_at = list(asked), 3
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "killed.jsonl", memory)
    assert not (tmp_path / "killed.jsonl").exists()
    dies_at = 0
    run(folder, tmp_path / "killed.jsonl", memory)
    assert asked == [*whole[:3], *whole[2:]]  # the third chunk was lost
    run(folder, tmp_path / "killed.jsonl", memory, overwrite=True)
    assert len(asked) == len(whole) + 1
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_another_teacher_is_asked_anew(folder, tmp_path, memory):
    teacher = calibrated(folder / "checkpoint", tmp_path / "teacher")
    for name, each in (("a", folder / "checkpoint"), ("b", teacher)):
        run(folder, tmp_path / f"{name}.jsonl", memory, teacher=each, cache=tmp_path / "cache")
        made = read_pairs(tmp_path / f"{name}.jsonl", Task.QC).rows[60:]
        assert shares(made) == pytest.approx(scores(each, made), abs=1e-3)


def test_an_exported_bundle_teaches_as_its_checkpoint_does(folder, tmp_path, memory):
    bundle, out = tmp_path / "bundle", tmp_path / "out.csv"
    assert relevance("export", folder / "checkpoint", bundle).returncode == 0
    arguments = ["--teacher", bundle, "--memory", memory, "--target", "de", "--base-model", folder / "encoder"]
    done = relevance("transfer", folder / "train.jsonl", out, "--task", "qc", *arguments)
    assert done.returncode == 0, done.stderr
    made = read_pairs(out, Task.QC).rows[60:]
    assert len(made) > 8
    assert shares(made) == pytest.approx(scores(folder / "checkpoint", made), abs=1e-3)


def test_a_cascade_teaches(folder, tmp_path, memory):
    tiny_cascade(tmp_path)
    run(folder, tmp_path / "out.jsonl", memory, teacher=tmp_path / "both")
    made = read_pairs(tmp_path / "out.jsonl", Task.QC).rows[60:]
    assert shares(made) == pytest.approx(scores(tmp_path / "both", made), abs=1e-3)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_the_file_written_can_be_that_of_the_next_call(folder, tmp_path, memory, ending, capsys):
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    run(folder, first, memory, cache=tmp_path / "cache")
    given = {"per_text": 8, "languages_per_pair": 2, "cache": tmp_path / "cache"}
    capsys.readouterr()
    run(folder, second, memory, first, **given, as_json=True)
    before, after = (read_pairs(file, Task.QC).rows for file in (first, second))
    assert [row.pair for row in after[: len(before)]] == [row.pair for row in before]
    assert shares(after[60 : len(before)]) == shares(before[60:])
    taught = [(row.pair.query, row.pair.candidate) for row in after[60:]]
    assert len(set(taught)) == len(taught) > len(before) - 60
    assert json.loads(capsys.readouterr().out)["known"] > 0


def test_memories_of_every_format_give_the_same_rows(folder, tmp_path, memory):
    texts = [{"en": unit["text"], **unit["translations"]} for unit in MEMORY]
    variants = "".join(f'<tuv xml:lang="{tag}"><seg>{{{tag}}}</seg></tuv>' for tag in ("en", "de", "pl"))
    contents = {
        "ndjson": "".join(f"{json.dumps(unit)}\n" for unit in texts),
        "tsv": "en\tde\tpl\n" + "".join("\t".join(unit.values()) + "\n" for unit in texts),
        "tmx": f"<tmx><body>{''.join(f'<tu>{variants}</tu>'.format(**unit) for unit in texts)}</body></tmx>",
    }
    run(folder, tmp_path / "jsonl.jsonl", memory, cache=tmp_path / "cache")
    for ending, content in contents.items():
        (tmp_path / f"memory.{ending}").write_text(content, encoding="utf-8")
        run(folder, tmp_path / f"{ending}.jsonl", tmp_path / f"memory.{ending}", cache=tmp_path / "cache")
        assert (tmp_path / f"{ending}.jsonl").read_bytes() == (tmp_path / "jsonl.jsonl").read_bytes()


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
        ({"teacher": "gone"}, "teacher .*gone: no such folder; expected a checkpoint or a bundle"),
        ({"teacher": "encoder"}, r"encoder: no card\.json; expected a folder written by `relevance train`"),
        ({"teacher": "train.jsonl"}, r"teacher .*train\.jsonl: no such folder"),
        ({"report": "report.txt"}, "report.txt"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(folder, tmp_path, memory, options, message):
    places = {"report": tmp_path, "teacher": folder}
    given = {name: places[name] / value if name in places else value for name, value in options.items()}
    with pytest.raises((ConfigError, CheckpointError, InputError), match=message):
        run(folder, tmp_path / "out.jsonl", memory, **given)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"", "teacher: its weights cannot be loaded"),
        ("card.json", b"{}", r"card\.json: name: Field required"),
        ("tokenizer.json", b"no json", r"tokenizer .*teacher/tokenizer\.json: expected"),
    ],
)
def test_a_damaged_teacher_is_named_before_any_text_is_embedded(folder, tmp_path, memory, file, content, message):
    teacher = tmp_path / "teacher"
    shutil.copytree(folder / "checkpoint", teacher)
    assert (teacher / file).is_file()
    (teacher / file).write_bytes(content)
    with pytest.raises((CheckpointError, InputError), match=message):
        run(folder, tmp_path / "out.jsonl", memory, teacher=teacher)
    assert not (tmp_path / "out.jsonl.embeddings").exists()


def test_broken_lines_of_a_memory_are_named_together(folder, tmp_path, memory):
    memory.write_text(memory.read_text() + "no json\n{}\n")
    with pytest.raises(InputError, match="2 bad of 6 rows"):
        run(folder, tmp_path / "out.jsonl", memory)
    run(folder, tmp_path / "out.jsonl", memory, skip_bad_units=True)
    assert (tmp_path / "out.jsonl").is_file()
