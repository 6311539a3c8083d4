"""How a Ray is found and what a killed one leaves: tests/contract/training/scoring/test_score_ray.py starts one."""

import os
import signal
import subprocess
import sys

import pytest

from relevance.errors import MachineError
from tests.rays import needs_ray
from training.scoring.ray import start as ray_start
from training.scoring.ray.start import check_address, own_folder

OWNER = """
import signal, sys
from pathlib import Path
from training.scoring.ray.start import own_folder
with own_folder(Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    print("here", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_named_at_once(address):
    with pytest.raises(MachineError, match=f"--ray {address}: no cluster answers"):
        check_address(address)


@needs_ray
@pytest.mark.parametrize(
    ("environment", "file", "message"),
    [
        ("", "127.0.0.1:9", r"--ray auto \(.*:9, by RAY_ADDRESS or Ray's file of the last cluster\): no cluster"),
        ("", "", "--ray auto: Ray finds no cluster"),
        ("127.0.0.1:9", "", r"--ray auto \(.*:9.*no cluster answers"),
        ("local", "", "--ray auto: RAY_ADDRESS is local"),
        ("ray://head:10001", "", "--ray auto"),
    ],
)
def test_a_cluster_that_is_gone_is_named_at_once(tmp_path, monkeypatch, environment, file, message):
    import ray._private.services as services

    monkeypatch.setattr(services, "find_gcs_addresses", set)  # other tests may have a Ray here
    monkeypatch.setenv("RAY_ADDRESS", environment)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    if file:
        (tmp_path / "ray" / "ray_current_cluster").write_text(file)
    with pytest.raises(MachineError, match=message):
        check_address("auto")


def test_the_folder_of_a_killed_process_goes_with_the_next_one_and_others_stay(tmp_path):
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        assert [owner.stdout.readline() for owner in owners] == ["here\n"] * 2
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
        owners[0].send_signal(signal.SIGKILL)
        owners[0].wait()
        with own_folder(tmp_path) as folder:
            found = {path for path in tmp_path.iterdir() if path.is_dir()}
            assert folder in found
            assert len(found) == 2
        assert len(list(tmp_path.iterdir())) == 2  # the living one's folder and its lock
    finally:
        for owner in owners:
            owner.kill()
            owner.wait()
            owner.stdout.close()


def test_a_lock_that_another_process_took_for_a_left_one_is_made_again(tmp_path, monkeypatch):
    """Two commands start at once: the second one sweeps between the first one's making of its lock and locking it."""
    flock, swept = ray_start.fcntl.flock, []

    def late(handle, how):
        if not swept:
            (made,) = tmp_path.iterdir()
            swept.append(made)
            ray_start._remove_if_left(made)
        flock(handle, how)

    monkeypatch.setattr(ray_start.fcntl, "flock", late)
    with own_folder(tmp_path) as folder:
        lock = folder.with_name(f"{folder.name}.lock")
        assert swept != [lock]
        assert sorted(tmp_path.iterdir()) == [folder, lock]
        ray_start._remove_if_left(lock)  # it is held
        assert folder.exists()
    assert list(tmp_path.iterdir()) == []


PATIENT = """
from pathlib import Path
from training.scoring.ray.runner import RayRunner
from training.scoring.options import ScoreOptions
try:
    RayRunner.open(Path("no bundle"), ScoreOptions(ray="local"))
except Exception as error:
    assert "no bundle" in str(error), error
from ray._raylet import Config
print(Config.worker_register_timeout_seconds())
"""


@needs_ray
def test_a_ray_of_this_machine_waits_longer_for_its_processes_and_keeps_what_the_user_set():
    for given, seconds in ({}, "600"), ({"RAY_worker_register_timeout_seconds": "90"}, "90"):
        told = subprocess.run(
            [sys.executable, "-c", PATIENT], env=os.environ | given, capture_output=True, text=True, check=False
        )
        assert told.stdout == f"{seconds}\n", told.stderr
