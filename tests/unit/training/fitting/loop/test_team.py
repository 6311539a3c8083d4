"""Two processes end with the model of one, resume, and end together. Real processes, over gloo."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from relevance.errors import ConfigError, DivergedError, MachineError
from tests.models import tiny_model
from tests.unit.training.fitting.loop.test_finetune import recipe, rows, weights
from training.fitting import untrained
from training.fitting.checkpoint import Job, dev_logits, train
from training.fitting.loop import finetune, snapshots, team
from training.fitting.loop.snapshots import STATE_FILE
from training.fitting.loop.workers import team_of
from training.fitting.recipe import EncoderSection, TrainingSection
from training.models.options import HeadOptions

TOLERANCE = 1e-5  # of a weight and a logit: the sums of two shares are rounded otherwise than that of one batch


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base model that drops nothing: each process draws its own dropout."""
    folder = tiny_model(tmp_path_factory.mktemp("base"))
    config = json.loads((folder / "config.json").read_text())
    config |= {name: 0.0 for name in config if "dropout" in name}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def shared(base, processes=2, *, trained=False, dropout=0.0, **training):
    made = recipe(base, processes=processes, precision="fp32", **{"evaluations": 1} | training)
    parts = {"head": HeadOptions(dropout=dropout), "encoder": EncoderSection(freeze_word_embeddings=not trained)}
    return made.model_copy(update=parts)


def run(made, out):
    return train(Job(made, rows(81), rows(40, 81), out))


def test_two_processes_give_the_result_of_one(base, tmp_path):
    # Gradients of word embeddings are sparse. The last batch has one row: none for the second process.
    switches = {"trained": True, "batch_size": 20, "micro_batch_size": 3}
    cards = {count: run(shared(base, count, **switches), tmp_path / str(count)) for count in (1, 2)}
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    before = weights_of_base(base)
    assert max(float((one[key] - before[key]).abs().max()) for key in before) > 500 * TOLERANCE
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(dev_logits(tmp_path / "2"), dev_logits(tmp_path / "1"), atol=TOLERANCE)
    assert cards[2].metrics.all.auc.value == pytest.approx(cards[1].metrics.all.auc.value)
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in "12"]
    steps = [[(each["step"], round(each["train_loss"], 3)) for each in found["evaluations"]] for found in runs]
    assert steps[0] == steps[1]


def weights_of_base(base):
    from safetensors.torch import load_file

    return {name: value for name, value in load_file(base / "model.safetensors").items() if "layer" in name}


def test_a_process_that_is_killed_ends_the_run_and_a_rerun_resumes(base, tmp_path, monkeypatch, caplog):
    made = shared(base, dropout=0.2, evaluations=2)
    run(made, tmp_path / "whole")
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "SNAPSHOT_TIME_SHARE", 1e9)
    step = finetune.FineTuner._step

    def killing(self, train, batches, number):
        if number == 7:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        return step(self, train, batches, number)

    monkeypatch.setattr(finetune.FineTuner, "_step", killing)
    with pytest.raises(MachineError, match=r"training process 1 of 2 was ended by SIGKILL: it wrote nothing"):
        run(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.work" / STATE_FILE).exists()
    assert multiprocessing.active_children() == []
    monkeypatch.setattr(finetune.FineTuner, "_step", step)
    with caplog.at_level("INFO"):
        run(made, tmp_path / "out")
    assert "resuming after step" in caplog.text
    first, second = weights(tmp_path / "out"), weights(tmp_path / "whole")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_error_of_the_leader_ends_the_others(base, tmp_path):
    with pytest.raises(DivergedError, match="learning_rate"):
        run(shared(base, learning_rate=1e30, head_learning_rate=1e30), tmp_path / "out")
    assert multiprocessing.active_children() == []


def test_an_error_of_another_process_is_one_message(base, tmp_path):
    made, missing = shared(base), tmp_path / "missing"
    given = (untrained.follow, made, tmp_path, missing, None, [])
    with pytest.raises(MachineError) as error, team_of(2, tmp_path, *given) as pair:
        pair.total(1.0)
    assert str(error.value).startswith("training process 1 of 2 ended with status 1: ")
    assert str(missing) in str(error.value).partition("(all that it wrote")[0]
    assert "Traceback" in (tmp_path / "process-1.log").read_text()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"processes": 33}, "processes = 33: more than batch_size = 32"),
        ({"processes": 2, "lambdarank_weight": 1}, "processes = 2 beside a loss within queries"),
        ({"processes": -1}, "greater than or equal to 0"),
    ],
)
def test_recipes_that_cannot_be_shared_are_refused(given, fault):
    with pytest.raises(ValidationError, match=fault):
        TrainingSection(**given)


def test_there_is_a_gpu_for_each_process(monkeypatch):
    assert team.resolve_processes(3) == 3  # on CPUs any number
    assert team.resolve_processes(0) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert team.resolve_processes(0) == 2
    with pytest.raises(ConfigError, match=r"training\.processes 3: this machine has 2 GPUs; expected at most 2"):
        team.resolve_processes(3)
