"""CPU time of `relevance score` around a model that takes none: `python benchmarks/scale/score_null.py`.

Reads, checks, tokenises, batches and writes rows of the SYNTHETIC sample (JSON lines to JSON lines) with the tests' own
bundle: a byte tokeniser (some 60 tokens a pair, more than a trained one has) and a graph of width 1. CPU microseconds a
pair are of one process and all of its threads, the least of `--rounds` runs. Writes `score_null.json` beside this file.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from score_ray import make

from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit
from training.scoring.options import ScoreOptions
from training.scoring.run import score_file

HERE = Path(__file__).parent


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "score_null.json")
    options = parser.parse_args()
    how = ScoreOptions(threads=1, device="cpu", overwrite=True, max_batch_tokens=16_384)
    runs = []
    with tempfile.TemporaryDirectory(prefix="relevance-null-") as name:
        folder = Path(name)
        tiny_bundle(folder / "bundle", hidden=1)
        make(folder / "rows.jsonl", options.rows, folder / "bundle")
        for _ in range(options.rounds):
            load, began, cpu = os.getloadavg()[0], time.monotonic(), time.process_time()
            score_file(folder / "bundle", folder / "rows.jsonl", folder / "scored.jsonl", how)
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            runs.append({"load_average": round(load, 1), "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)})
    result = {
        "command": " ".join(["python benchmarks/scale/score_null.py", *sys.argv[1:]]),
        "created": now(),
        "source_commit": source_commit(),
        "cores": len(os.sched_getaffinity(0)),
        "rows": options.rows,
        "cpu_microseconds_a_pair": round(min(run["cpu_seconds"] for run in runs) / options.rows * 1e6, 1),
        "runs": runs,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
