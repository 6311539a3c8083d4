"""The tables of docs/performance.md on a GPU: `python benchmarks/serving/results/gpu_table.py`"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]
COUNTS = ("1", "10", "50", "100", "500")
LOADS = ((1, 16), (100, 1), (100, 4), (100, 16), (500, 4), (500, 16))


def result(name: str) -> Any:
    """Return a committed result."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def measured() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of both tables: what was measured, and what was found."""
    fp16, fp32, cudnn = (result(name) for name in ("gpu", "gpu_fp32", "gpu_cudnn"))
    yield "**fp16**", fp16["bundles"][0]["plain"]
    yield "fp16, `cuda_graphs`", fp16["bundles"][0]["cuda_graphs"]
    yield "fp32", fp32["bundles"][0]["plain"]
    yield "fp32, `cuda_graphs`", fp32["bundles"][0]["cuda_graphs"]
    yield "fp16, attention of cuDNN (before)", cudnn["bundles"][0]["plain"]
    yield "FastAPI + sentence-transformers, fp16", cudnn["peers"]["plain, 32 pairs a run"]


def latencies() -> str:
    """Return the table of latencies by candidate count."""
    heads = [f"{count} candidates" for count in COUNTS]
    heads[0] = "1 candidate"
    lines = [f"| p50 / p95 / p99, ms | {' | '.join(heads)} |", f"|---|{'---|' * len(COUNTS)}"]
    for name, found in measured():
        each = (found["by_candidates"][count] for count in COUNTS)
        cells = [" / ".join(f"{one[f'p{q}_ms']:.1f}" for q in (50, 95, 99)) for one in each]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def throughputs() -> str:
    """Return the table of pairs a second by candidates and callers at a time."""
    heads = [f"{candidates} x {callers}" for candidates, callers in LOADS]
    lines = [f"| pairs/s, candidates x callers | {' | '.join(heads)} |", f"|---|{'---|' * len(LOADS)}"]
    for name, found in measured():
        loads = {(each["candidates"], each["callers"]): each["pairs_per_second"] for each in found["by_load"]}
        lines.append(f"| {name} | {' | '.join(f'{loads[load]:,.0f}' for load in LOADS)} |")
    return "\n".join(lines)


def raw(name: str) -> float:
    """Return the median pairs a second of the raw session at its best number of tokens a run."""
    bundle = result(name)["bundles"][0]
    return max(sorted(each)[len(each) // 2] for each in bundle["raw_before"].values())


if __name__ == "__main__":
    print(latencies(), throughputs(), f"raw: fp16 {raw('gpu'):,.0f}, fp32 {raw('gpu_fp32'):,.0f} pairs/s", sep="\n\n")
