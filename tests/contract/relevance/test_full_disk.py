"""Every command that writes, on a disk that takes no more: one line that names the file, and nothing half written.

A limit on the size of files stands for the full disk: the system refuses the write in the same place (EFBIG in place of
ENOSPC), and no disk has to be filled. Streams are tried over /dev/full.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from relevance.errors import MachineError
from relevance.storage.files import whole_file, whole_folder
from relevance.tasks import Task
from tests import commands
from tests.models import tiny_model
from tests.pipelines import labelled, write_inputs
from tests.tiny import tiny_bundle
from training.data.splits import write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.recipe import Recipe


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Rows, a memory, a recipe, a base model, a checkpoint and a bundle."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    rows = labelled(120)
    write_pairs(folder / "dev.jsonl", rows[:40], Task.QC)
    recipe = Recipe(name="tiny", task="qc", base_model=str(tiny_model(folder / "base")))
    train(Job(recipe, rows, rows[:40], folder / "checkpoint"))
    tiny_bundle(folder / "bundle")
    return folder


COMMANDS = {
    "train": ("train", "{i}/recipe.toml", "{o}", "--train", "{i}/train.jsonl", "--dev", "{i}/dev.jsonl"),
    "export": ("export", "{i}/checkpoint", "{o}"),
    "pipeline": ("pipeline", "run", "{i}/recipe.toml", "{o}"),
    "score": ("score", "{i}/bundle", "{i}/train.jsonl", "{o}.jsonl", "--device", "cpu", "--threads", "1"),
    "evaluate": ("evaluate", "{i}/bundle", "{i}/train.jsonl", "--page", "{o}.html"),
    "clean": ("data", "clean", "{i}/train.jsonl", "{o}.jsonl", "--task", "qc", "--tags", "off"),
    "split": ("data", "split", "{i}/train.jsonl", "{o}", "--task", "qc"),
    "report": ("data", "report", "{i}/train.jsonl", "--task", "qc", "--out", "{o}.html", "--no-tags"),
    "sample": ("sample", "{o}", "--scale", "0.05"),
    "encoder": ("encoder", "{i}/base", "{o}"),
    "translate": (
        *("translate", "{i}/train.jsonl", "{o}.jsonl", "--task", "qc", "--backend", "memory:{i}/memory.jsonl"),
        *("--target", "de", "--without-gate", "similarity", "--without-gate", "language"),
    ),
    "negatives": (
        *("negatives", "{i}/train.jsonl", "{o}.jsonl", "--task", "qc", "--strategy", "random"),
        *("--base-model", "{i}/base", "--per-positive", "1"),
    ),
    "validate": (
        *("validate", "{i}/train.jsonl", "{o}.jsonl", "--task", "qc", "--recipe", "{i}/recipe.toml"),
        *("--folds", "2", "--option", "dev_share=0.2"),
    ),
}

CACHES = {"embeddings", "out.jsonl.embeddings", "out.jsonl.translations.sqlite", "out.jsonl.validation"}


LIMITED = """
import resource, signal
from relevance.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
main()
"""


def run_limited(words):
    """Run a command that may write no file of more than 512 bytes."""
    return commands.run([sys.executable, "-c", LIMITED, *words])


def errors(done):
    return [line for line in done.stderr.splitlines() if line.startswith("error:")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_full_disk_says_so_in_one_line(inputs, tmp_path, name):
    out = tmp_path / "out"
    words = [word.format(i=inputs, o=out) for word in COMMANDS[name]]
    done = run_limited(words)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = errors(done)
    assert str(tmp_path) in line
    assert "cannot be written: " in line
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left <= CACHES | ({"out"} if name == "pipeline" else set())
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.parametrize("name", ["clean", "export"])
def test_a_place_that_cannot_be_made_is_named(inputs, tmp_path, name):
    (tmp_path / "file").write_text("")
    words = [word.format(i=inputs, o=tmp_path / "file" / "out") for word in COMMANDS[name]]
    done = commands.relevance(*words)
    assert done.returncode == 5, done.stderr
    (line,) = errors(done)
    assert f"{tmp_path / 'file'} is no folder" in line


def test_results_onto_a_full_device_are_an_error(inputs):
    words = [*commands.RELEVANCE, "data", "check", str(inputs / "train.jsonl"), "--task", "qc", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert done.returncode == 5
    assert errors(done) == ["error: output: No space left on device"]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_finished_run_is_kept_where_the_next_one_finds_no_room(inputs, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    words = [word.format(i=inputs, o=tmp_path / "out") for word in COMMANDS["clean"]]
    assert run_limited([*words, "--overwrite"]).returncode == 5
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def write_too_much(context, part):
    with context as place:
        (place / part if part else place).write_bytes(bytes(500_000))
        raise OSError(28, "No space left on device")


def test_what_was_needed_is_said_where_it_is_known(tmp_path):
    with pytest.raises(MachineError, match=r"a: cannot be written: No space .*3\.0 MB needed; .* free"):
        write_too_much(whole_file(tmp_path / "a", needs=3_000_000), "")
    with pytest.raises(MachineError, match=r"b: cannot be written: No space .*after 0\.5 MB"):
        write_too_much(whole_folder(tmp_path / "b"), "part")
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_is_missing_is_not_taken_for_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"in\.txt"), whole_file(tmp_path / "out.txt"):
        (tmp_path / "in.txt").read_text()
