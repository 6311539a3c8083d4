"""Pairs a second by the clock, around a model that takes no time: `python benchmarks/scale/score_clock.py`.

The rows, tokeniser and bundle of score_null.py (SYNTHETIC rows, some 60 tokens a pair, a graph of width 1). As many
`relevance score` commands as cores run at once, each held to one core and with its share of the rows in a file of its
own, as the part files of a catalogue's night run would be shared out. Seconds are from the start of the first command
to the end of the last, so each command's start counts. Needs free cores: the load average before is in the JSON. Writes
`score_clock.json` beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from run import machine
from score_null import SHAPES
from score_ray import make

from tests.tiny import tiny_bundle
from training.data.files.writers import write_file
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def clocked(bundle: Path, files: Sequence[Path]) -> float:
    """Score each file by a command of its own, each on one core, all at once; return the seconds of them all."""
    begun = time.monotonic()
    started = []
    for core, file in zip(sorted(os.sched_getaffinity(0)), files, strict=True):
        words = ["score", bundle, file, file.with_name(f"out-{file.name}"), "--json", "--threads=1", "--device=cpu"]
        command = ["taskset", "-c", str(core), sys.executable, "-m", "relevance", *map(str, words)]
        given = [*command, "--max-batch-tokens=16384", "--overwrite"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(given, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL))
    codes = [each.wait() for each in started]
    if any(codes):
        raise SystemExit("a command failed; its message stands above")
    return time.monotonic() - begun


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of all commands together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "score_clock.json")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    facts = machine()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="relevance-clock-") as name:
        folder = Path(name)
        tiny_bundle(folder / "bundle", hidden=1)
        for shape, (candidates, suffix) in SHAPES.items():
            make(folder / "made.jsonl", options.rows, folder / "bundle", candidates)
            with (folder / "made.jsonl").open(encoding="utf-8") as stream:
                lines = list(stream)
            share = -(-len(lines) // cores)
            files = [folder / f"part{core}{suffix}" for core in range(cores)]
            for core, file in enumerate(files):
                write_file(file, map(json.loads, lines[core * share : (core + 1) * share]))
            del lines
            seconds = [clocked(folder / "bundle", files) for _ in range(options.rounds)]
            rates = [round(options.rows / each) for each in seconds]
            found[shape] = {"seconds": [round(each, 2) for each in seconds], "pairs_per_second": rates}
            print(shape, json.dumps(found[shape]), file=sys.stderr)
    result = {
        "command": " ".join(["python benchmarks/scale/score_clock.py", *sys.argv[1:]]),
        "created": now(),
        "source_commit": source_commit(),
        "machine": facts,
        "commands": cores,
        "rows": options.rows,
        "shapes": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
