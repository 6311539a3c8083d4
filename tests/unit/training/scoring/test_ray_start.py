"""How a Ray is found and what a killed one leaves: tests/contract/training/test_score_ray.py starts one."""

import signal
import subprocess
import sys

import pytest

from relevance.errors import MachineError
from tests.rays import needs_ray
from training.scoring.ray_start import check_address, own_folder

OWNER = """
import signal, sys
from pathlib import Path
from training.scoring.ray_start import own_folder
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
