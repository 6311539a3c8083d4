"""What every result says of itself: its command, when and from which source it was made, and on what machine."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relevance.model.bundle import Bundle
from relevance.model.cores import processor
from relevance.model.session import onnxruntime
from relevance.tasks import Pair
from training.data.dataset import read_pairs
from training.data.provenance import now, source_commit


def about(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the head of a result of the script that runs."""
    return {
        "command": f"python benchmarks/serving/{Path(sys.argv[0]).name} {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": processor(),
            "onnxruntime": onnxruntime.__version__,
            "load": os.getloadavg()[0],
            **gpu(),
        },
    }


def gpu() -> dict[str, str]:
    """Return the GPU's name, memory and driver, as its tool gives them; nothing where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(("gpu", "gpu_memory", "driver"), lines[0].split(", "), strict=True)) if lines else {}


def model_of(bundle: Bundle) -> dict[str, Any]:
    """Return what is said of the model."""
    manifest = bundle.manifest
    layers = manifest.recipe.get("encoder", {}).get("layers")
    return {"name": manifest.name, "precision": manifest.precision, "layers": layers}


def pairs_of(rows: Path, bundle: Bundle) -> list[Pair]:
    """Return the pairs of a file of rows for a bundle's task."""
    return [row.pair for row in read_pairs(rows, bundle.manifest.task).rows]


def write(result: Mapping[str, Any], out: Path, *quiet: str) -> None:
    """Write a result as JSON and print it without the named parts."""
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name not in quiet}, indent=1))
