"""How many cores this process may use. Service, export and training choose their threads by it."""

import contextlib
import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores of this process: its affinity, and its container's CPU quota, rounded up, where there is one."""
    cores = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # control groups v2, v1
        with contextlib.suppress(OSError, ValueError):  # no such files, or "max": no quota
            quota, period = " ".join((CGROUP / file).read_text() for file in files).split()
            return max(1, min(cores, math.ceil(int(quota) / int(period)))) if int(quota) > 0 else cores
    return cores
