"""What base weights in 4 bits cost and save on real pairs: `python benchmarks/real_data/qlora.py --max-rows 600`.

Trains the QI model by adapters (LoRA) twice, with base weights in fp32 and in NF4 (`lora.load_in_4bit`), each in a
process of its own on one thread, and reports pairs by CPU second, the peak of the resident memory above that of all
imports, and what `--plan` says of it. Needs ../shared/data and the extra `qlora`. Writes `qlora_qi.json` in this
folder. So few rows say nothing of the AUC.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import DATA, ROOT, Parts, machine, parts

from training.data.provenance import now, source_commit
from training.fitting.checkpoint import Job, train
from training.fitting.plan import plan
from training.pipeline.recipe import load_fine_tuning

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "real_data"
MODELS = {"fp32": "lora.load_in_4bit=false", "nf4": "lora.load_in_4bit=true"}
SETTINGS = ("lora.rank=16", "training.learning_rate=5e-4", "training.epochs=1", "training.evaluations=1")
# So that freed memory is given back, and the peak is that of what is used (benchmarks/training/plan.py).
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
MIB = 2**20


def english(max_rows: int) -> Parts:
    """Return the rows as written, without translations."""
    return Parts(*([row for row in rows if "source_id" not in row.extra] for rows in parts("qi", max_rows, 0)))


def folder_of(name: str) -> Path:
    """Return the checkpoint's folder of a model."""
    return BUILD / f"qlora-{name}"


def trained(name: str, given: Parts) -> dict[str, Any]:
    """Train a model in this process; return what it took."""
    import bitsandbytes  # noqa: F401 - a run would import these later
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    recipe = load_fine_tuning(ROOT / "configs" / "qi.toml", [*SETTINGS, MODELS[name]])
    job = Job(recipe, given.train, given.choosing, folder_of(name))
    planned = plan(recipe, job.train, job.dev, job.lacking)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.process_time()
    train(job, overwrite=True)
    seconds = time.process_time() - began
    took = {
        "settings": [*SETTINGS, MODELS[name]],
        "rows": len(given.train),
        "cpu_seconds": round(seconds, 1),
        "pairs_per_cpu_second": round(len(given.train) * recipe.training.epochs / seconds, 1),
        "peak_mib": round((_status("VmHWM") - before) / MIB, 1),
        "planned_mib": {
            part: round(getattr(planned, part) / MIB, 1)
            for part in ("weights", "activations", "evaluation", "whole", "total")
        },
    }
    _note(name).write_text(json.dumps(took))
    return took


def _note(name: str) -> Path:
    return folder_of(name) / "took.json"


def _status(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(arguments: Sequence[str]) -> None:
    """Train both in processes of their own, write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-rows", type=int, default=600, help="train on so many rows, drawn by the seed")
    parser.add_argument("--model", choices=MODELS, help="train this one and print what it took")
    parser.add_argument("--keep", action="store_true", help="keep models in build/: they can be trained side by side")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    given = english(options.max_rows)
    if options.model:
        trained(options.model, given)
        return
    for name in MODELS:
        if options.keep and _note(name).is_file():
            continue
        command = [sys.executable, __file__, "--max-rows", str(options.max_rows), "--model", name]
        subprocess.run(command, check=True, env={**os.environ, **ENVIRONMENT})
    runs = {name: json.loads(_note(name).read_text(encoding="utf-8")) for name in MODELS}
    result = {
        "command": f"python benchmarks/real_data/qlora.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine() | {"note": "one thread; a CPU only; other programs ran beside it"},
        "rows": {name: len(rows) for name, rows in given._asdict().items()},
        "training": runs,
    }
    (HERE / "qlora_qi.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
