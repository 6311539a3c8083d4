"""Nothing phones home: every command is run under strace, and its connections, name look-ups and files are read."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from relevance.tasks import Task
from relevance.telemetry import TELEMETRY_OFF, turn_off_telemetry
from tests import ROOT
from tests.models import tiny_model
from tests.serving import COMMAND, running
from tests.tiny import tiny_bundle
from tests.tracing import Trace, files_below, missing_tracer, read_trace, traced

RELEVANCE = COMMAND[:-1]
ROWS = [
    {"id": n, "language": "en", "origin_query": f"red cup {n}", "item_title": f"cup {n}", "label": n % 2}
    for n in range(9)
]
PROBE = """
import pathlib, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.connect(("192.0.2.1", 9))  # sends nothing
pathlib.Path("/etc/resolv.conf").exists() and open("/etc/resolv.conf").close()
pathlib.Path.home().joinpath("device-id").write_text("x")
"""

needs_strace = pytest.mark.skipif(missing_tracer() is not None, reason=str(missing_tracer()))


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def environment(home):
    """Return an environment of a user who never heard of telemetry."""
    kept = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF and "OFFLINE" not in name}
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": "", "RELEVANCE_CACHE": str(home.parent / "cache")}


def run(command, home, log):
    done = subprocess.run(traced(command, log), env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return read_trace(log, home)


@needs_strace
def test_the_tracer_sees_connections_lookups_and_files(home, tmp_path):
    found = run([sys.executable, "-c", PROBE], home, tmp_path / "log")
    assert found.addresses == ("192.0.2.1:9",)
    assert found.written == (str(home / "device-id"),)
    assert found.lookups == (("/etc/resolv.conf",) if Path("/etc/resolv.conf").exists() else ())


@needs_strace
def test_train_export_and_score_connect_to_nobody(home, tmp_path):
    rows, recipe = tmp_path / "rows.jsonl", tmp_path / "recipe.toml"
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    tiny_model(tmp_path / "base", "xlm-roberta")
    recipe.write_text(f'name = "tiny"\ntask = "qi"\nbase_model = "{tmp_path / "base"}"\n[training]\nepochs = 1\n')
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    steps = [
        ["train", recipe, checkpoint, "--train", rows, "--dev", rows],
        ["export", checkpoint, bundle],
        ["score", bundle, rows, tmp_path / "scored.jsonl"],
    ]
    for step in steps:
        assert run([*RELEVANCE, *map(str, step)], home, tmp_path / "log") == Trace((), (), ()), step[0]
    assert not list(files_below(home))


@needs_strace
def test_serve_connects_to_nobody(home, tmp_path, monkeypatch):
    tiny_bundle(tmp_path / "qc", Task.QC)
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    with running({"qc": tmp_path / "qc"}, traced(COMMAND, tmp_path / "log")) as process:
        url = process.wait_ready()
        body = {"task": "qc", "query": "shoes", "candidates": ["Shoes", "Cups"]}
        httpx.post(f"{url}/v1/score", json=body, timeout=60).raise_for_status()
        httpx.get(f"{url}/metrics", timeout=60).raise_for_status()
    assert read_trace(tmp_path / "log", home) == Trace((), (), ())
    assert not list(files_below(home))


@needs_strace
def test_openvino_connects_to_nobody(home, tmp_path):
    tiny_bundle(tmp_path / "qc", Task.QC)
    code = f"""
import pathlib
from relevance.model.bundle import Bundle
from relevance.model.openvino_model import OpenVinoModel
OpenVinoModel(Bundle.open(pathlib.Path({str(tmp_path / "qc")!r})))
"""
    assert run([sys.executable, "-c", code], home, tmp_path / "log") == Trace((), (), ())
    assert not list(files_below(home))


@pytest.mark.parametrize(
    "package", ["relevance", "relevance.scorer", "service.runtime.session", "training.scoring.run", "export.onnx"]
)
def test_every_package_turns_telemetry_off_before_onnxruntime_is_imported(package, home):
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import {package}, onnxruntime
"""
    told = subprocess.run([sys.executable, "-c", code], env=environment(home), stdout=subprocess.PIPE, check=True)
    assert told.stdout == b"1\n"


def test_benchmarks_import_what_reports_to_vendors_through_the_project_only():
    # Sorted imports put other packages before `relevance`; it is imported before onnxruntime all the same.
    # Servers in peers/ run in an environment of their own; they inherit the variables of the script that starts them.
    scripts = [path for path in (ROOT / "benchmarks").rglob("*.py") if path.parent.name != "peers"]
    assert len(scripts) > 20
    for script in scripts:
        nodes = ast.parse(script.read_text(encoding="utf-8")).body  # functions import later, when telemetry is off
        names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        reporting = {"onnxruntime", "openvino", "transformers", "optimum", "huggingface_hub", "sentence_transformers"}
        assert not reporting & {name.partition(".")[0] for name in names}, script


def test_what_the_user_set_stays():
    mine = {"ORT_DISABLE_TELEMETRY": "0"}
    turn_off_telemetry(mine)
    assert mine == TELEMETRY_OFF | {"ORT_DISABLE_TELEMETRY": "0"}


def test_images_turn_telemetry_off_too():
    text = (ROOT / "Dockerfile").read_text()
    assert all(f"{name}={value}" in text.partition("FROM python AS build")[0] for name, value in TELEMETRY_OFF.items())


def test_grafana_reports_nothing():
    told = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["grafana"]["environment"]
    quiet = {name: value for name, value in told.items() if name.startswith("GF_ANALYTICS")}
    assert len(quiet) == 3
    assert set(quiet.values()) == {"false"}
