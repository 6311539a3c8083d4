"""CPU time of `relevance score` around a model that takes none: `python benchmarks/scale/score_null.py`.

Reads, checks, tokenises, batches and writes rows of the SYNTHETIC sample with the tests' own bundle: a byte tokeniser
(some 60 tokens a pair, more than a trained one has) and a graph of width 1. `catalogue` is each query with 20
candidates, as a catalogue's night run has them; `distinct` has no query twice. CPU microseconds a pair are of one
command and all of its threads, on one core, without its start: the difference between a run of all rows and one of few,
the least of `--rounds` rounds. `--before` names a checkout of an older commit, which takes turns with this one and must
write the same bytes. Writes `score_null.json` beside this file.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from score_ray import make

from training.data.files.writers import write_file
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
FEW = 2000  # rows of a run that is almost only start
SHAPES = {"catalogue, JSON lines": (20, ".jsonl"), "distinct, JSON lines": (1, ".jsonl")}
SHAPES |= {"catalogue, Parquet": (20, ".parquet"), "distinct, Parquet": (1, ".parquet")}


def scored(code: Path, folder: Path, file: Path) -> tuple[float, float, bytes]:
    """Score a file with the code of a checkout; return CPU seconds, seconds and the output."""
    out = folder / f"out{file.suffix}"
    words = ["score", folder / "bundle", file, out, "--json", "--threads=1", "--device=cpu", "--max-batch-tokens=16384"]
    command = [sys.executable, "-m", "relevance", *map(str, words), "--overwrite"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=code, env=os.environ | {"PYTHONPATH": str(code)}, check=True, capture_output=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds, out.read_bytes()


def measure(codes: dict[str, Path], folder: Path, names: tuple[Path, Path], rounds: int) -> dict[str, Any]:
    """Measure the codes in turns on a file of few rows and one of all; return the figures of each code."""
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in codes}
    for _ in range(rounds):
        outputs = []
        for name, code in codes.items():
            start, _, _ = scored(code, folder, names[0])
            cpu, seconds, content = scored(code, folder, names[1])
            runs[name].append((start, cpu, seconds))
            outputs.append(content)
        if any(content != outputs[0] for content in outputs):
            raise SystemExit(f"{names[1].name}: the outputs of {list(codes)} differ; expected the same bytes")
    return {
        name: {"cpu_of_start_cpu_seconds": [[round(each, 2) for each in run] for run in runs[name]]} for name in runs
    }


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--out", type=Path, default=HERE / "score_null.json")
    options = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})  # all commands run on one core
    codes = {"now": HERE.parents[1]} | ({"before": options.before.absolute()} if options.before else {})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="relevance-null-") as name:
        folder = Path(name)
        made = f"from tests.tiny import tiny_bundle; tiny_bundle(Path({str(folder / 'bundle')!r}), hidden=1)"
        oldest = list(codes.values())[-1]  # newer code reads the bundles of older code
        subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path; {made}"],
            cwd=oldest,
            env=os.environ | {"PYTHONPATH": str(oldest)},
            check=True,
        )
        for shape, (candidates, suffix) in SHAPES.items():
            files = folder / f"few{suffix}", folder / f"all{suffix}"
            for file, rows in zip(files, (FEW, options.rows), strict=True):
                make(folder / "made.jsonl", rows, folder / "bundle", candidates)
                lines = (folder / "made.jsonl").read_text(encoding="utf-8").splitlines()
                write_file(file, map(json.loads, lines))
            found[shape] = measure(codes, folder, files, options.rounds)
            for run in found[shape].values():
                spent = min(cpu - start for start, cpu, _ in run["cpu_of_start_cpu_seconds"])
                run["cpu_microseconds_a_pair"] = round(spent / (options.rows - FEW) * 1e6, 1)
            print(shape, json.dumps(found[shape]), file=sys.stderr)
    result = {
        "command": " ".join(["python benchmarks/scale/score_null.py", *sys.argv[1:]]),
        "created": now(),
        "source_commit": source_commit(),
        "before": options.before and source_commit_of(options.before),
        "cores_used": 1,
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "rows": options.rows,
        "shapes": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def source_commit_of(folder: Path) -> str:
    """Return the commit of a checkout."""
    words = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
