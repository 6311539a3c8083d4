"""A pipeline that is killed (SIGKILL) at ten random moments ends with the same datasets as one left alone."""

import random
import subprocess
import time
from pathlib import Path

from tests.commands import Started
from tests.pipelines import command, run, write_inputs
from training.pipeline.show import read_run

KILLS = 10
DATASETS = ("read", "clean", "split", "translate", "mine", "filter")


def datasets(out: Path) -> dict[str, bytes]:
    """Return the bytes of every dataset of the last run, and of the scores that its model gave."""
    stages = read_run(out).stages
    found = {}
    for stage in (*DATASETS, "train", "score"):
        for file in sorted(stages[stage].folder.glob("*.parquet")):
            found[f"{stage}/{file.name}"] = file.read_bytes()
    return found


def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes(tmp_path):
    recipe = write_inputs(tmp_path, rows=160)
    begun = time.monotonic()
    whole = run("run", recipe, tmp_path / "whole")
    seconds = time.monotonic() - begun
    assert whole.returncode == 0, whole.stderr
    rng, killed = random.Random(7), 0
    for _ in range(KILLS):
        started = Started(command("run", recipe, tmp_path / "killed"))
        try:
            started.wait(timeout=rng.uniform(0.05, 0.3) * seconds)  # the work before a kill is kept
        except subprocess.TimeoutExpired:
            started.kill()
            killed += 1
    done = run("run", recipe, tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert killed >= KILLS / 2  # later runs find most of their work done and may end before their kill
    assert datasets(tmp_path / "killed") == datasets(tmp_path / "whole")
