"""How many threads torch gets, and how they wait, on a machine with other busy processes.

OpenMP threads spin while they wait for one another. Where another process uses one of the cores, spinning threads block
the others, and training on all cores becomes many times slower than on one (benchmarks/training).
"""

import contextlib
import functools
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from relevance.model.cores import usable_cores

log = logging.getLogger(__name__)

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
SAMPLE_SECONDS = 0.5
_STAT = Path("/proc/stat")
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal


def wait_passively() -> None:
    """Make OpenMP threads sleep while they wait, unless the user has set a policy. Call before torch is loaded."""
    if not PASSIVE.keys() & os.environ.keys():
        os.environ.update(PASSIVE)


@functools.cache
def use_free_cores() -> int:
    """Give torch as many threads as cores are free, once a process; return how many. OMP_NUM_THREADS overrides."""
    import torch

    if not os.environ.get("OMP_NUM_THREADS"):
        allowed = usable_cores()
        free = free_threads(allowed, others_busy())
        torch.set_num_threads(free)
        if free < allowed:
            log.info("threads: %d of %d cores are free; set OMP_NUM_THREADS to choose", free, allowed)
    return torch.get_num_threads()


def free_threads(allowed: int, busy: float) -> int:
    """Return the number of threads for `allowed` cores of which others keep `busy`: at least 1."""
    return max(1, min(allowed, math.floor(allowed - busy + 0.5)))


def others_busy(seconds: float = SAMPLE_SECONDS) -> float:
    """Measure briefly how many of this process's cores other processes use; 0 where the system has no counters."""
    usage = CoreUsage.now()
    time.sleep(seconds)
    return usage.others_since()


@dataclass(frozen=True, slots=True)
class CoreUsage:
    """A reading of the counters: busy seconds of this process's cores, by all processes and by this one."""

    all_seconds: float
    own_seconds: float
    at: float

    @classmethod
    def now(cls) -> "CoreUsage":
        """Read the counters of the system."""
        return cls(_busy_seconds(), time.process_time(), time.monotonic())

    def others_since(self) -> float:
        """Return the mean number of cores that other processes have used since then."""
        later = CoreUsage.now()
        busy = (later.all_seconds - self.all_seconds) - (later.own_seconds - self.own_seconds)
        return max(0.0, busy / max(later.at - self.at, 1e-9))


def slow_because(usage: CoreUsage) -> str:
    """Return the likely cause of slow work since `usage` was taken, and what to do."""
    busy, allowed = usage.others_since(), usable_cores()
    if busy >= 0.5:
        mend = f"end them, or start again with OMP_NUM_THREADS={free_threads(allowed, busy)}"
        return f"other processes keep {busy:.1f} of {allowed} cores busy: {mend}"
    return "no other process is busy on these cores: the disk, memory or a CPU quota may be short"


def _busy_seconds() -> float:
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STAT.read_text().splitlines():
            name, *fields = line.split()
            if name in cores:
                ticks += sum(int(fields[n]) for n in _BUSY_FIELDS)
    return ticks / os.sysconf("SC_CLK_TCK")
