"""The processor: how many cores this process may use, by which all choose their threads, and what it can do."""

import contextlib
import math
import os
import platform
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPU_FACTS = Path("/proc/cpuinfo")
# Flags of what decides the speed of a model: 8 or 16 floats at a time, products of int8 and of bf16.
FAST = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"})


def usable_cores() -> int:
    """Return the cores of this process: its affinity, and its container's CPU quota, rounded up, where there is one."""
    cores = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # control groups v2, v1
        with contextlib.suppress(OSError, ValueError):  # no such files, or "max": no quota
            quota, period = " ".join((CGROUP / file).read_text() for file in files).split()
            return max(1, min(cores, math.ceil(int(quota) / int(period)))) if int(quota) > 0 else cores
    return cores


def cpu_flags(facts: Path = CPU_FACTS) -> frozenset[str]:
    """Return the words of the processor's description, its flags among them; none where the system does not tell."""
    try:
        return frozenset(facts.read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # no Linux
        return frozenset()


def processor(facts: Path = CPU_FACTS) -> str:
    """Return the processor's name and its flags that decide the speed of a model, for records of measurements."""
    try:
        found = re.search(r"model name\s*: (.*)", facts.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = None
    return ", ".join([found[1] if found else platform.machine(), *sorted(FAST & cpu_flags(facts))])
