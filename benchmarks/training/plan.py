"""Compare what `relevance train --plan` says of memory with what small runs take: the peak of the resident memory.

    python benchmarks/training/plan.py benchmarks/training/plan.json

Each run is a process of its own with random weights, in fp32 on the CPU. Counted is what it takes beyond the memory
that the process has after all imports. glibc's allocator keeps freed memory, so that a run takes up to a third more;
with the variable of EXACT it gives every block back, and the run takes what its tensors need. One row is without it.
One case alone: `--case NAME`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from training.data.provenance import now, source_commit  # noqa: E402

MIB = 2**20
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8}
BATCH = 64
KERNEL_ROWS = 3000
CASES = {
    "encoder": {},
    "encoder, parts of 16 pairs": {"training": {"micro_batch_size": 16}},
    "encoder, layers computed twice": {"training": {"gradient_checkpointing": True}},
    "language model, LoRA": {"head": {"kind": "yes_no"}, "lora": {"rank": 16}},
    "language model, LoRA, layers computed twice": {
        "head": {"kind": "yes_no"},
        "lora": {"rank": 16},
        "training": {"gradient_checkpointing": True},
    },
    "kernel head": {"head": {"kind": "kernel"}, "training": {"epochs": 0}},
}


def measure(name: str, folder: Path) -> dict[str, object]:
    """Plan and run a case in this process; return both results in MiB."""
    import sklearn.linear_model  # noqa: F401 - a run imports it later
    import torch._inductor  # noqa: F401 - fake tensors import it

    from relevance.tasks import LabeledPair, Pair
    from tests.models import random_model
    from training.fitting.checkpoint import Job, train
    from training.fitting.kernel_plan import plan_kernel
    from training.fitting.plan import plan
    from training.fitting.recipe import Recipe

    changes, is_kernel = CASES[name], name == "kernel head"
    kind = "qwen3" if "lora" in changes else "bert"
    base = random_model(folder / "base", kind, **WIDE)
    training = {"batch_size": BATCH, "max_length": 96, "evaluations": 1, "precision": "fp32"}
    recipe = Recipe.model_validate(
        {"name": "planned", "task": "qi", "base_model": str(base), "head": {"kind": "mean"}}
        | changes
        | {"training": training | changes.get("training", {})}
    )
    pairs = [
        Pair(f"red shoes {i}", "home & garden, red shoes " * 9) for i in range(KERNEL_ROWS if is_kernel else 2 * BATCH)
    ]
    rows = [LabeledPair(pair, i % 2, str(i)) for i, pair in enumerate(pairs)]
    job = Job(recipe, rows, rows[:BATCH], folder / "out", tuned=False)
    planned = (plan_kernel if is_kernel else plan)(recipe, job.train, job.dev, job.lacking)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    train(job)
    measured = _status("VmHWM") - before
    return {
        "case": name,
        "parameters": planned.parameters,
        **({} if is_kernel else {"trained": planned.trained}),
        "rows": planned.rows,
        "tokens": planned.tokens,
        "planned_mib": round(planned.total / MIB, 1),
        "measured_mib": round(measured / MIB, 1),
        "ratio": round(planned.total / measured, 3),
    }


def _status(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--case", choices=CASES)
    given = parser.parse_args()
    if given.case:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.case, Path(folder))))
        return
    found = []
    for case, exact in [*((name, True) for name in CASES), ("encoder", False)]:
        command = [sys.executable, __file__, "--case", case]
        environment = {**os.environ, **(EXACT if exact else {})}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(json.loads(done.stdout) | {"allocator": "exact" if exact else "default"})
        print(found[-1])
    content = {"command": "python benchmarks/training/plan.py", "created": now(), "source_commit": source_commit()}
    given.out.write_text(json.dumps(content | {"environment": EXACT, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
