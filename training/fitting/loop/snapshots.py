"""The work folder of an unfinished run, and the snapshot in it: one file, whole or not at all, and when it is due."""

import json
import logging
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relevance.errors import CheckpointError
from relevance.storage.files import whole_file
from relevance.storage.outputs import write_text
from training.fitting.loop.team import ALONE, Team

log = logging.getLogger(__name__)

STATE_FILE = "state.pt"
FINGERPRINT_FILE = "fingerprint"
# Least seconds between two snapshots, largest share of the time that is spent on writing them, and largest mean rate
# of bytes (8 MB a second is half a gigabyte a minute). A snapshot waits until all three allow it.
SNAPSHOT_SECONDS = 60.0
SNAPSHOT_TIME_SHARE = 0.05
SNAPSHOT_BYTES_A_SECOND = 8e6


def open_work(work: Path, mark: dict[str, str]) -> None:
    """Keep the work folder of an interrupted run of the same job; delete the folder of any other job.

    `mark` has what the run depends on: a name, by which a message tells what differs, and its fingerprint.
    """
    file = work / FINGERPRINT_FILE
    if work.exists() and (other := _differences(file, mark)):
        log.info("%s differ from those of the interrupted run in %s: starting over", ", ".join(other), work)
        shutil.rmtree(work)
    write_text(file, json.dumps(mark))
    for leftover in work.glob(f".{STATE_FILE}.*"):  # a snapshot that a kill left half written
        leftover.unlink()


def _differences(file: Path, mark: dict[str, str]) -> list[str]:
    """Return the names of the inputs that differ from those of the job that made the work folder."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return [name for name, value in mark.items() if found.get(name) != value]
    except (OSError, ValueError, AttributeError):
        return ["files"]


class Snapshots:
    """The snapshot in a work folder: random states and threads, and whatever else a run needs to go on."""

    def __init__(self, work: Path, device: torch.device, threads: int, team: Team = ALONE) -> None:
        self._path, self._device, self._threads, self._team = work / STATE_FILE, device, threads, team
        self._saved_at, self._wait_seconds = time.monotonic(), SNAPSHOT_SECONDS

    @property
    def due(self) -> bool:
        """Whether enough time has passed to write another."""
        return time.monotonic() - self._saved_at > self._wait_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write a snapshot in place of the last one. The other processes of the team call `take_part` meanwhile."""
        whole = state | self.take_part() | {"threads": self._threads}
        begun, size = time.monotonic(), _tensor_bytes(whole)
        with whole_file(self._path, size) as path:
            torch.save(whole, path)
        self._saved_at = time.monotonic()
        self._wait_seconds = snapshot_wait(self._saved_at - begun, size)

    def take_part(self) -> dict[str, list[Tensor]]:
        """Return the random states of all processes, by rank."""
        own = torch.cuda.get_rng_state() if self._device.type == "cuda" else torch.empty(0, dtype=torch.uint8)
        return {"rng": self._team.gather(torch.get_rng_state()), "cuda_rng": self._team.gather(own)}

    def load(self) -> dict[str, Any] | None:
        """Return the last snapshot's state, if there is one, and set random state and threads by it."""
        if not self._path.is_file():
            return None
        try:
            state = torch.load(self._path, map_location=self._device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"snapshot {self._path}: cannot be read ({error}); remove it to start again"
            ) from None
        if not os.environ.get("OMP_NUM_THREADS"):  # another number gives other last digits
            self._threads = int(state["threads"])
            torch.set_num_threads(self._threads)
        torch.set_rng_state(state["rng"][self._team.rank].cpu())
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"][self._team.rank].cpu())
        return dict(state)


def snapshot_wait(spent_seconds: float, size: int) -> float:
    """Return the seconds to wait after a snapshot of `size` bytes that took `spent_seconds` to write."""
    return max(SNAPSHOT_SECONDS, spent_seconds / SNAPSHOT_TIME_SHARE, size / SNAPSHOT_BYTES_A_SECOND)


def _tensor_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_tensor_bytes, inner))
