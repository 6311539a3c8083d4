"""What `--plan` says agrees with what a run does, and nothing is written or loaded for it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from tests import ROOT
from tests.models import tiny_language_model, tiny_model, tiny_reranker
from training.commands.models.train import TrainingFiles
from training.commands.options import PairFiles
from training.data.files.reading import ReadOptions
from training.data.splits import draw, write_pairs
from training.fitting.checkpoint import Job, train
from training.fitting.kernel_plan import plan_kernel
from training.fitting.plan import plan
from training.fitting.recipe import Recipe
from training.models.cross_encoder import CrossEncoder

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # in DeBERTa and ModernBERT
SHARED = ("steps", "weights", "gradients", "optimizer", "kept", "evaluation")
TOLERANCE = 0.15  # of a run's peak, with an allocator that gives freed memory back


def rows(count=40):
    return [
        LabeledPair(Pair(f"red shoes {i}", f"goods,{'shoes' if i % 2 else 'cups'}"), i % 2, str(i))
        for i in range(count)
    ]


def recipe(base, **more):
    training = {"epochs": 2, "batch_size": 16, "evaluations": 1, "max_length": 112} | more.pop("training", {})
    form = {"candidate_prefix": " category: "}
    parts = {"name": "planned", "task": "qc", "base_model": str(base), "format": form, "training": training}
    return Recipe.model_validate(parts | more)


def planned(base, tmp_path, **more):
    return plan(recipe(base, **more), rows(), rows(8), tmp_path / "lacking")


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", {}),
        ("xlm-roberta", {"head": {"kind": "stock"}}),
        ("modernbert", {"head": {"kind": "mean"}, "encoder": {"freeze_word_embeddings": False}}),
        ("deberta-v2", {"encoder": {"layers": 1}}),
        ("gemma3", {"head": {"kind": "mean"}, "training": {"precision": "fp32"}}),
        ("llama", {"head": {"kind": "mean"}, "training": {"gradient_checkpointing": True}}),
    ],
)
def test_counts_are_those_of_the_run(tmp_path, monkeypatch, family, more):
    make = tiny_reranker if more.get("head") == {"kind": "stock"} else tiny_model
    base = make(tmp_path / "base", family)
    found = planned(base, tmp_path, **more)
    seen = {}

    def look(self, *arguments):
        seen["trained"] = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        seen["steps"] = seen.get("steps", 0) + 1
        return step(self, *arguments)

    from training.fitting.loop.finetune import FineTuner

    step = FineTuner._step
    monkeypatch.setattr(FineTuner, "_step", look)
    train(Job(recipe(base, **more), rows(), rows(8), tmp_path / "out"))
    assert (found.trained, found.steps) == (seen["trained"], seen["steps"])
    model = CrossEncoder.from_checkpoint(tmp_path / "out")
    assert found.parameters == sum(value.numel() for value in model.parameters())
    assert found.weights >= 4 * found.parameters
    assert found.gradients == 4 * found.trained
    assert found.activations > 0


def test_adapters_need_gradients_of_their_own_alone(tmp_path):
    base = tiny_language_model(tmp_path / "base")
    whole = planned(base, tmp_path, head={"kind": "yes_no"})
    adapted = planned(base, tmp_path, head={"kind": "yes_no"}, lora={"rank": 2})
    assert adapted.trained == adapted.parameters - whole.parameters
    assert adapted.trained < 0.2 * whole.trained
    assert adapted.optimizer == 8 * adapted.trained


def test_parts_and_layers_computed_twice_need_fewer_activations(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    whole = planned(base, tmp_path)
    parts = planned(base, tmp_path, training={"micro_batch_size": 4})
    twice = planned(base, tmp_path, training={"gradient_checkpointing": True})
    assert (whole.rows, parts.rows) == (16, 4)
    assert parts.activations < 0.5 * whole.activations
    assert twice.activations < 0.9 * whole.activations


def test_processes_divide_the_activations_and_nothing_else(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    one, eight = planned(base, tmp_path), planned(base, tmp_path, training={"processes": 8})
    assert (one.processes, one.rows, eight.processes, eight.rows) == (1, 16, 8, 2)
    assert eight.activations < 0.2 * one.activations
    assert [getattr(eight, part) for part in SHARED] == [getattr(one, part) for part in SHARED]


def test_a_kernel_heads_counts_are_those_of_the_run(tmp_path, caplog):
    base = tiny_model(tmp_path / "base", "bert")
    kernel = recipe(base, head={"kind": "kernel", "landmarks": 30}, training={"epochs": 0})
    given = [*rows(), replace(rows()[0], extra={"label_weight": 0})]
    found = plan_kernel(kernel, given, rows(8), tmp_path / "lacking")
    with caplog.at_level("INFO"):
        train(Job(kernel, given, rows(8), tmp_path / "out"))
    assert "a sample of 30 of 40 training rows" in caplog.text
    assert (found.rows, found.landmarks, found.dev_rows) == (40, 30, 8)
    model = CrossEncoder.from_checkpoint(tmp_path / "out")
    assert found.parameters == sum(value.numel() for value in model.parameters())
    written = sum((tmp_path / "out" / name).stat().st_size for name in ("model.safetensors", "head.safetensors"))
    assert found.checkpoint == pytest.approx(written, rel=0.05)
    assert found.checkpoint < found.disk < 2 * found.checkpoint + 20_000


def test_what_solving_takes_grows_with_the_landmarks(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    few, many = (
        plan_kernel(
            recipe(base, head={"kind": "kernel", "landmarks": most}, training={"epochs": 0}),
            rows(80),
            rows(8),
            tmp_path / "lacking",
        )
        for most in (20, 80)
    )
    assert (many.kernel, many.blocks, many.vectors) == (16 * few.kernel, 16 * few.blocks, 4 * few.vectors)
    assert many.tokens > 2 * few.tokens
    assert many.cpu_seconds > few.cpu_seconds


def test_the_command_prints_a_plan_and_writes_nothing(tmp_path):
    base = tiny_model(tmp_path / "base", "bert")
    (tmp_path / "recipe.toml").write_text(f'name = "tiny"\ntask = "qc"\nbase_model = "{base}"\n')
    lines = [
        json.dumps({"origin_query": f"shoes {i}", "category_path": f"a,{i % 3}", "label": i % 2, "id": str(i)})
        for i in range(12)
    ]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "relevance", "train", "recipe.toml", "out", "--train", "train.jsonl"]
    command += ["--dev", "dev.jsonl", "--plan"]
    before = sorted(tmp_path.iterdir())
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["steps"] == 1
    assert found["total"] >= found["weights"] + found["gradients"] + found["optimizer"] + found["activations"]
    assert sorted(tmp_path.iterdir()) == before
    assert "12 training rows (first: id 0) have a query of dev" in done.stderr
    kernel = ["--set", "head.kind=kernel", "--set", "training.epochs=0"]
    done = subprocess.run(
        [*command, *kernel], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    told = done.stdout.splitlines()
    assert told[0].endswith("parameters, those of the head are solved for")
    assert told[1] == "landmarks: 12 of the 12 training rows that count"
    assert [line.partition(": ")[0] for line in told[3:]] == ["memory", "disk", "time"]
    assert sorted(tmp_path.iterdir()) == before


def test_rows_of_all_files_in_the_wanted_languages_are_drawn(tmp_path):
    made = [replace(row, pair=replace(row.pair, language=("de", "fr", "en")[n % 3])) for n, row in enumerate(rows(60))]
    for name, part in (("a", made[:25]), ("b", made[25:])):
        write_pairs(tmp_path / f"{name}.jsonl", part, Task.QC)
    given = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]

    def drawn(**chosen):
        files = TrainingFiles(PairFiles(ReadOptions()), given, tmp_path / "dev.jsonl", **chosen)
        return files.train_rows(recipe(tmp_path), tmp_path / "out")

    assert drawn() == made
    wanted = [row for row in made if row.pair.language != "en"]
    assert drawn(language=["de", "fr"], max_rows=17) == draw(wanted, 17, recipe(tmp_path).seed)
    with pytest.raises(InputError, match="--language it: no training row has it"):
        drawn(language=["de", "it"])


@pytest.mark.parametrize(
    ("more", "error", "fault"),
    [
        ({"encoder": {"layers": 9}}, ConfigError, "layers 9: base has 2; expected 1 to 2"),
        ({"training": {"epochs": 0}}, ConfigError, "training.epochs = 0 trains nothing; expected a number above 0"),
        ({"training": {"max_length": 200}}, ConfigError, "max_length 200: the model has 130 positions"),
        ({"head": {"kind": "yes_no"}, "prompt": {"yes": " certainly"}}, InputError, "is not one token after"),
    ],
)
def test_what_training_refuses_is_refused(tmp_path, more, error, fault):
    with pytest.raises(error, match=fault):
        planned(tiny_language_model(tmp_path / "base"), tmp_path, **({"head": {"kind": "mean"}} | more))


@pytest.mark.parametrize("case", ["encoder, parts of 16 pairs", "kernel head"])
def test_memory_is_that_of_a_run(case):
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks/training/plan.py"), "--case", case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["ratio"] == pytest.approx(1, abs=TOLERANCE)
