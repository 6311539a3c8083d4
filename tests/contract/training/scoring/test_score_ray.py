"""`relevance score --ray` as a user runs it, with a real Ray whose processes are killed (SIGKILL) in mid-run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rays import needs_ray
from tests.tiny import tiny_bundle

pytestmark = [needs_ray, pytest.mark.timeout(3600)]  # Ray takes minutes to start on a busy machine
SHARD_ROWS, SHARDS = 40, 30
WAIT_SECONDS = 1500


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A bundle whose shards take some tenths of a second, rows, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("ray")
    tiny_bundle(folder / "bundle", hidden=256, depth=24)
    rows = [
        {
            "id": n,
            "language": ("en", "ja")[n % 2],
            "origin_query": f"red cup {n} " * (n % 4 + 1),
            "category_path": "cups",
        }
        for n in range(SHARD_ROWS * SHARDS)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(command(folder, folder / "alone.jsonl"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def command(folder, out, *options):
    words = [sys.executable, "-m", "relevance", "score", folder / "bundle", folder / "in.jsonl", out, "--json"]
    return [*map(str, words), "--threads", "1", "--device", "cpu", "--shard-rows", str(SHARD_ROWS), *options]


def on_ray(folder, out):
    return command(folder, out, "--ray", "local", "--actors", "2")


def below(pid):
    """Return the names of all processes below one, by id; Ray names its workers `ray::CLASS`."""
    found = {}
    waiting = [pid]
    while waiting:
        for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            for child in path.read_text().split():
                waiting.append(child)
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
    return found


def actors(pid):
    return [child for child, name in below(pid).items() if name.startswith("ray::MapWorker")]


def finished(out):
    return len(list((out.parent / f".{out.name}.work").glob("shard-*.npy")))


def wait_for(condition, process):
    ends = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def ids(out):
    return [json.loads(line)["id"] for line in out.read_text().splitlines()]


def test_actors_and_workers_are_killed_and_every_row_is_there_once(inputs, tmp_path):
    out = tmp_path / "out.jsonl"
    with subprocess.Popen(on_ray(inputs, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: finished(out) >= 3, run)
        kill(actors(run.pid)[:1])
        before = finished(out)
        wait_for(lambda: finished(out) >= before + 4, run)
        kill(pid for pid, name in below(run.pid).items() if name.startswith("ray::Map"))  # every process that scores
        assert finished(out) < SHARDS
        told, errors = run.communicate(timeout=WAIT_SECONDS)
    assert run.returncode == 0, errors
    assert json.loads(told)["rows"] == SHARD_ROWS * SHARDS
    assert ids(out) == list(range(SHARD_ROWS * SHARDS))
    assert out.read_bytes() == (inputs / "alone.jsonl").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_the_driver_is_killed_and_the_same_command_goes_on_with_or_without_ray(inputs, tmp_path):
    out = tmp_path / "killed" / "out.jsonl"
    with subprocess.Popen(on_ray(inputs, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: finished(out) >= 5, run)
        started = below(run.pid)
        run.kill()
    kept = finished(out)
    assert 5 <= kept < SHARDS
    assert not out.exists()
    ends = time.monotonic() + WAIT_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in started):  # Ray's processes end with the driver
        assert time.monotonic() < ends, started
        time.sleep(0.1)
    shutil.copytree(out.parent, tmp_path / "alone")
    for words in (on_ray(inputs, out), command(inputs, tmp_path / "alone" / "out.jsonl")):
        done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["resumed"] == kept * SHARD_ROWS
        made = Path(words[6])
        assert ids(made) == list(range(SHARD_ROWS * SHARDS))
        assert made.read_bytes() == (inputs / "alone.jsonl").read_bytes()
        assert [path.name for path in made.parent.iterdir()] == ["out.jsonl"]


def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(inputs, tmp_path):
    """A limit on the size of files (1 KiB) stands for the full disk, as in test_full_disk.py."""
    out = tmp_path / "out.jsonl"
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *on_ray(inputs, out)]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 5
    assert "out.jsonl" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run(command(inputs, out), capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (inputs / "alone.jsonl").read_bytes()


ENDING = """
import os, signal, sys
def watch(event, arguments):
    if event == "os.remove" and str(arguments[0]).endswith("attempts-000002"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
"""


def test_a_shard_that_always_ends_its_actor_ends_the_run_and_is_named(inputs, tmp_path):
    """Every process that scores the third shard is killed when it has scored it, before it can return the scores."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ENDING)
    paths = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    out = tmp_path / "out.jsonl"
    started = command(inputs, out, "--ray", "local", "--actors", "1")
    done = subprocess.run(
        started,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 5, done.stderr
    assert "shard 2: 4 actors ended, each while it scored rows 81 to 120 of the input" in done.stderr
    assert "Traceback" not in done.stderr
    assert finished(out) >= 2
    done = subprocess.run(command(inputs, out), capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (inputs / "alone.jsonl").read_bytes()
