"""What a kernel head costs beside a paired one of the same six layers: `python benchmarks/real_data/heads.py`.

Takes the two QC models of `run.py qc --keep --arm "fine-tuned, paired head: ..."` (the command in qc.json) and trains
those that are missing. Exports both, and scores the dev rows with each in turn on one thread of onnxruntime: CPU
seconds (medians), pairs a CPU second, sizes and the logits' largest difference from the checkpoint. Needs
../shared/data beside the project. Writes `heads_qc.json` beside this file.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundles import bundle_of, cpu_seconds
from rows import machine, parts

from relevance.model.bundle import MODEL_FILE, Bundle
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
PRECISION = "training.precision=bf16"
HEADS = {
    "kernel": ("qc-model-of-the-recipe", [PRECISION]),
    "paired": (
        "qc-fine-tuned,-paired-head",
        [PRECISION, "head.kind=paired", "head.width=64", "training.epochs=2"],
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Measure both heads and write the JSON."""
    if arguments:
        sys.exit(f"error: {' '.join(arguments)}: expected no argument")
    given = parts("qc", None, 0)
    folders = {head: bundle_of(name, "qc", keys, given, keep=True)[0] for head, (name, keys) in HEADS.items()}
    rows = given.report
    spent = cpu_seconds(folders, rows)
    result: dict[str, Any] = {
        "command": "python benchmarks/real_data/heads.py",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "rows": len(rows),
        "heads": {head: about(folders[head], seconds, len(rows)) for head, seconds in spent.items()},
        "cost_of_kernel_to_paired": round(spent["kernel"] / spent["paired"], 3),
    }
    (HERE / "heads_qc.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def about(folder: Path, seconds: float, rows: int) -> dict[str, float]:
    """Return the figures of a bundle by the CPU seconds that it took."""
    manifest = Bundle.open(folder).manifest
    return {
        "cpu_seconds": round(seconds, 2),
        "pairs_per_cpu_second": round(rows / seconds, 1),
        "megabytes": round((folder / MODEL_FILE).stat().st_size / 1e6, 1),
        "largest_logit_difference": float(f"{manifest.parity.max_logit_difference:.2g}"),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
