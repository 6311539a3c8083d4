"""Time and memory of preparing a fine-tuning run by the number of rows: `python benchmarks/scale/prepare.py`.

Runs `training.fitting.checkpoint.train`, the stage `train` of the pipeline, on rows of the SYNTHETIC sample (`rows.py`
makes the files that are missing; nothing here is about quality), each size in a process of its own. The model is one
layer of 32 dimensions with random weights over the packaged encoder's tokenizer, and a thousandth of an epoch is
trained: so figures are those of what comes before the first step (checks, category prior, tokenisation, the order of an
epoch's batches), and of the rows that some steps read. `--team` runs it again with two processes, for the peak of the
second one. Memory is the peak of the process (VmHWM, so Linux only). Python, torch and the tokenizer are in it, which
the smallest size shows. Writes `prepare.json` beside this file, or `--out`.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import make
from run import in_process, machine, peak_mib

from relevance.tasks import Task
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
STAGES = {"alone": 1, "team": 2}  # processes
DEV_ROWS = 500
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def read(task: Task, work: Path) -> dict[str, Any]:
    """Write the rows of all files in the pipeline's form, and the model."""
    from transformers import AutoModel

    from training.data.dataset import store_pairs
    from training.models.base.base_models import load_base_config, load_base_tokenizer, resolve_base_model
    from training.pipeline.tables import write_rows

    rows = store_pairs(work / "parts", task).rows
    write_rows(work / "train.parquet", rows, task)
    base = resolve_base_model("packaged:multilingual-e5-small")
    config = load_base_config(base)
    config.update(TINY)
    AutoModel.from_config(config).save_pretrained(work / "base")
    load_base_tokenizer(base).save_pretrained(work / "base")
    return {"rows": len(rows)}


def prepare(task: Task, work: Path, processes: int) -> dict[str, Any]:
    """Prepare and train some steps; return the memory of the second process, if there is one."""
    from training.fitting.checkpoint import Job, train
    from training.fitting.recipe import Recipe
    from training.pipeline.tables import open_rows

    rows = open_rows(work / "train.parquet", task)
    training = {"epochs": 0.001, "evaluations": 1, "processes": processes, "precision": "fp32"}
    recipe = Recipe.model_validate(
        {"name": "prepare", "task": task, "base_model": str(work / "base"), "training": training}
    )
    train(Job(recipe, rows, rows[:DEV_ROWS], work / f"out-{processes}", tuned=False))
    if processes == 1:
        return {}
    return {"second_process_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)}


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON; with --stage, run that stage alone and print its facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--task", type=Task, choices=list(Task), default=Task.QC)
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "relevance-rows", help="files of rows"
    )
    parser.add_argument("--paths", type=int, default=4_000, help="different category paths (QC)")
    parser.add_argument("--out", type=Path, default=HERE / "prepare.json")
    parser.add_argument("--team", action="store_true", help="again with two processes")
    parser.add_argument("--stage", choices=["read", *STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage == "read":
        print(json.dumps(read(options.task, options.folder)))
        return
    if options.stage:
        begun = time.process_time()
        facts = prepare(options.task, options.folder, STAGES[options.stage])
        print(json.dumps({"peak_mib": peak_mib(), "cpu_seconds": round(time.process_time() - begun, 2)} | facts))
        return
    result = {
        "command": " ".join(["python benchmarks/scale/prepare.py", *arguments]),
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "note": "synthetic rows, see the top of prepare.py",
        "sizes": {},
    }
    for rows in options.rows:
        result["sizes"][rows] = measured(options, rows)
        content = result | {"load_average_after": os.getloadavg()[0]}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measured(options: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Return the figures of so many rows."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="relevance-prepare-") as name:
        parts = Path(name) / "parts"
        parts.mkdir()
        for file in make(options.data, options.task, rows, options.paths):
            (parts / file.name).symlink_to(file.resolve())
        shared = [f"--task={options.task}", f"--folder={name}"]
        in_process(__file__, ["--stage=read", *shared])
        for stage in list(STAGES)[: 1 + options.team]:
            facts, seconds = in_process(__file__, [f"--stage={stage}", *shared])
            found[stage] = facts | {"seconds": round(seconds, 1)}
            print(f"{rows:,} {stage}: {found[stage]}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
