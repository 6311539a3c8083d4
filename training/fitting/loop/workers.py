"""Starting the other processes of a run, and ending them all together. Knows no models."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from relevance.errors import MachineError, RelevanceError
from training.fitting.loop.team import ALONE, STORE_FILE, Team, join, leave, take_device
from training.threads import use_free_cores

LOG = "process-{}.log"  # in the folder, by rank
NOTICE_SECONDS = 60.0  # from a lost connection to the end of the process behind it

Work = Callable[..., None]


@dataclass(frozen=True, slots=True)
class _Seat:
    """What a started process needs to join: its number, that of all, where they meet, its threads."""

    rank: int
    size: int
    folder: Path
    threads: int


@contextlib.contextmanager
def team_of(size: int, folder: Path, work: Work, *arguments: Any) -> Iterator[Team]:
    """Run `work(team, *arguments)` in size - 1 further processes; yield this process's place, the leader's.

    All end with the block. What they write goes to files in `folder`. An error of the block ends them and is raised as
    it is. Raises MachineError where one of them fails: its number, and the last line that it wrote.
    """
    if size == 1:
        yield ALONE
        return
    processes: list[BaseProcess] = []
    try:
        _start(processes, size, folder, work, arguments)
        take_device(0)
        yield join(0, size, folder)
    except RuntimeError:  # torch's, for a lost connection: the process behind it wrote why
        if (rank := _failed(processes, NOTICE_SECONDS)) is not None:
            raise _failure(processes, rank, folder) from None
        raise
    finally:
        leave()
        for process in processes:  # they have nothing left to do, or cannot go on
            process.kill()
            process.join()
        (folder / STORE_FILE).unlink(missing_ok=True)


def _start(processes: list[BaseProcess], size: int, folder: Path, work: Work, arguments: Sequence[Any]) -> None:
    """Start the processes and wait until each is ready to join. Raises MachineError where one ends before."""
    (folder / STORE_FILE).unlink(missing_ok=True)
    threads = max(1, use_free_cores() // size)
    torch.set_num_threads(threads)
    context = multiprocessing.get_context("spawn")
    ready = []
    for rank in range(1, size):
        ours, theirs = context.Pipe(duplex=False)
        given = (_Seat(rank, size, folder, threads), theirs, work, arguments)
        process = context.Process(target=_enter, args=given, daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        ready.append(ours)
    for rank, (process, ours) in enumerate(zip(processes, ready, strict=True), start=1):
        wait([ours, process.sentinel])
        try:
            ours.recv()
        except EOFError:
            process.join()
            raise _failure(processes, rank, folder) from None


def _enter(seat: _Seat, ready: Connection, work: Work, arguments: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the leader ends the others
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    torch.set_num_threads(seat.threads)
    with (seat.folder / LOG.format(seat.rank)).open("wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        take_device(seat.rank)
        ready.send(True)
        work(join(seat.rank, seat.size, seat.folder), *arguments)
        leave()
    except RelevanceError as error:
        sys.exit(str(error))


def _end_with_the_leader() -> None:
    leader = multiprocessing.parent_process()
    if leader is not None:
        leader.join()
        os._exit(1)


def _failed(processes: Sequence[BaseProcess], seconds: float) -> int | None:
    """Return the number of a process that has ended with an error, or does so within some seconds; else None."""
    until = time.monotonic() + seconds
    while True:
        alive = [each.sentinel for each in processes if each.is_alive()]  # first: one that ends now is seen below
        if (rank := next((rank for rank, each in enumerate(processes, start=1) if each.exitcode), None)) is not None:
            return rank
        left = until - time.monotonic()
        if left <= 0 or not alive:
            return None
        wait(alive, left)


def _failure(processes: Sequence[BaseProcess], rank: int, folder: Path) -> MachineError:
    code, log = processes[rank - 1].exitcode or 0, folder / LOG.format(rank)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
    return MachineError(f"training process {rank} of {len(processes) + 1} {how}: {said} (all that it wrote: {log})")
