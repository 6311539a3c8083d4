"""`relevance demo` with a tiny encoder: an untuned model answers first, and Ctrl-C loses nothing."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from relevance.errors import MachineError
from relevance.model.bundle import Manifest
from relevance.tasks import Task
from tests import commands
from tests.models import tiny_model
from tests.tiny import tiny_bundle
from training.demo.parts import RECIPES, TASKS, Part
from training.demo.processes import check_port

CODE = """
import signal
import sys
from pathlib import Path
from training.demo.run import run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, which ignores it for good
sys.stdout = open(sys.argv[1], "w")
run(Path("demo"), 0, Path("recipes"))
"""
LIMIT_SECONDS = 300  # for a busy machine; nothing waits for it


class Running:
    """The demo in a process of its own, and what it has said."""

    def __init__(self, folder, name):
        self.said = folder / name
        self.started = commands.Started([sys.executable, "-c", CODE, str(self.said)], cwd=folder)

    def wait_for(self, text):
        until = time.monotonic() + LIMIT_SECONDS
        while text not in (said := self.said.read_text() if self.said.exists() else ""):
            assert time.monotonic() < until, said
            time.sleep(0.05)
        return said

    def end(self, with_signal):
        os.kill(self.started.pid, with_signal)
        done = self.started.wait(LIMIT_SECONDS)
        assert "Traceback" not in done.stderr
        assert running_in(self.said.parent) == []
        return done.returncode


def running_in(folder):
    """Return the command lines of the processes that run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text())
    return found


def write_recipes(folder, base, qc_epochs):
    """Write the demo's recipes over a tiny encoder."""
    folder.mkdir(exist_ok=True)
    for task in TASKS:
        text = (RECIPES / f"{task.value}.toml").read_text().replace("packaged:multilingual-e5-small", str(base))
        assert "layers = 6" in text
        lines = text.replace("layers = 6", "layers = 2").splitlines()
        if task is Task.QC:
            lines = [f"epochs = {qc_epochs}" if line.startswith("epochs") else line for line in lines]
        (folder / f"{task.value}.toml").write_text("\n".join(lines))


def put_finished_qi(folder):
    """Put a bundle in place of QI's fine-tuned one, so that QC alone is made here."""
    part = Part.of(Task.QI, folder / "demo", folder / "recipes")
    tiny_bundle(part.tuned.bundle, Task.QI)
    file = part.tuned.bundle / "manifest.json"
    manifest = json.loads(file.read_text()) | {"recipe": part.tuned.recipe.model_dump(mode="json")}
    file.write_text(Manifest.model_validate(manifest).sealed().model_dump_json())


def events(folder):
    lines = (folder / "demo" / "service.log").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [(line["event"], line["task"], line["model"]) for line in found if "model" in line and "task" in line]


def served(said):
    """Return the URL in what the demo has said, and the models that are served there."""
    (url,) = {word.rstrip("/") for word in said.split() if word.startswith("http") and word.endswith("/")}
    return url, {each["task"]: each for each in httpx.get(f"{url}/v1/models").json()["models"]}


def test_untuned_model_answers_first_and_the_demo_goes_on_where_it_was(tmp_path):
    base = tiny_model(tmp_path / "tiny")
    write_recipes(tmp_path / "recipes", base, qc_epochs=1000)  # would train for hours
    put_finished_qi(tmp_path)
    first = Running(tmp_path, "first.txt")
    url, models = served(first.wait_for("Fine-tuning of QC on the sample goes on"))
    assert (models["qc"]["name"], models["qc"]["fine_tuned"]) == ("demo-qc-untuned", False)
    body = {"task": "qc", "query": "cup", "candidates": ["kitchen,cups", "shoes"]}
    assert len(httpx.post(f"{url}/v1/score", json=body, timeout=60).json()["scores"]) == 2
    assert first.end(signal.SIGINT) == 130
    assert "The same command goes on from here" in first.said.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")

    write_recipes(tmp_path / "recipes", base, qc_epochs=0.05)
    second = Running(tmp_path, "second.txt")
    said = second.wait_for("Ready")
    assert "untuned" not in said.partition("Open")[0]  # it is still there
    assert "QC: the fine-tuned model answers from now on (AUC on dev rows:" in said
    url, models = served(said)
    assert (models["qc"]["name"], models["qc"]["fine_tuned"]) == ("demo-qc", True)
    report = httpx.get(f"{url}/page/reports/qc/{models['qc']['version']}/data.html")
    assert (report.status_code, "6,000" in report.text) == (200, True)  # training rows of the sample
    assert ("model switched", "qc", "demo-qc") in events(tmp_path)
    assert not (tmp_path / "demo" / "qc" / "untuned").exists()
    second.wait_for("--help")
    assert second.end(signal.SIGHUP) == 0  # its terminal is closed

    third = Running(tmp_path, "third.txt")
    said = third.wait_for("--help")
    assert "Fine-tuning" not in said
    assert served(said)[1]["qc"]["version"] == models["qc"]["version"]
    assert third.end(signal.SIGTERM) == 0


def test_port_in_use_and_a_folder_that_is_a_file_are_told_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} on 127.0.0.1: .*in use; expected a free port"):
            check_port(port)
        done = commands.relevance("demo", tmp_path / "demo", "--port", port)
    assert (done.returncode, done.stdout) == (5, "")
    (tmp_path / "file").write_text("")
    done = commands.relevance("demo", tmp_path / "file", "--models-only")
    assert done.returncode == 5
    assert done.stderr.startswith(f"error: {tmp_path / 'file'}: cannot be written")


def test_what_stops_the_training_of_a_part_is_told_in_one_line(tmp_path):
    write_recipes(tmp_path / "recipes", tmp_path / "missing", qc_epochs=1)
    put_finished_qi(tmp_path)
    command = [*commands.RELEVANCE, "demo", "demo", "--models-only", "--recipes", "recipes"]
    done = commands.Started(command, cwd=tmp_path).wait(LIMIT_SECONDS)
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: training and export of QC ended with status 2: base model ")
    assert line.endswith("(demo/qc/log.txt)")
    assert running_in(tmp_path) == []
