"""Two actors of Ray against two processes without it: `python benchmarks/scale/score_ray.py`.

The model is the tests' own: a byte tokeniser and a graph of `--depth` square layers, no trained model. Both score the
same synthetic rows with one thread each. `plain` is two commands `relevance score` at once, each with half of the rows;
`ray` is one command with `--ray local --actors 2`. They take turns, `--rounds` times. A run's pairs/s are counted from
the moment when every process or actor has finished a shard: starting Python, the model and Ray is in `total_seconds`
alone. CPU seconds are those of all processes of a run, Ray's own included. Writes `score_ray.json` beside this file. On
a machine with other work only the ratio of a round says something.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from relevance.bundle import Bundle
from relevance.tasks import Task
from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
# Prints the time of each finished shard; its arguments are those of the command.
CHILD = """
import sys, time
def watch(event, arguments):
    if event == "os.rename" and "/shard-" in str(arguments[1]):
        print("shard", time.time(), file=sys.stderr, flush=True)
sys.addaudithook(watch)
from relevance.cli import main
main()
"""


def make(file: Path, count: int, bundle: Path) -> None:
    """Write rows of the SYNTHETIC sample, repeated with a number in the query, so that no two are equal."""
    from training.sample.generate import generate
    from training.sample.plan import SampleSettings
    from training.sample.shop import load_shop

    task = Bundle.open(bundle).manifest.task
    rows = [row for made in generate(task, SampleSettings(0, 1.0), load_shop()).values() for row in made]
    with file.open("w", encoding="utf-8") as stream:
        for place in range(count):
            pair = rows[place % len(rows)].pair
            names = {"id": place, "origin_query": f"{pair.query} {place}", "language": pair.language}
            stream.write(json.dumps(names | {Task(task).candidate_field: pair.candidate}) + "\n")


def start(options: argparse.Namespace, file: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start a command that scores a file."""
    words = [options.bundle, file, out, "--json", "--threads=1", "--device=cpu", f"--shard-rows={options.shard_rows}"]
    command = [sys.executable, "-c", CHILD, "score", *map(str, words), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measure(options: argparse.Namespace, files: list[Path], folder: Path, *more: str) -> dict[str, Any]:
    """Score files at once, each by a command; return pairs/s, total seconds and CPU seconds of them together."""
    began, cpu = time.monotonic(), sum(os.times()[2:4])
    runs = [start(options, file, folder / f"{file.stem}.out.jsonl", *more, "--overwrite") for file in files]
    told = [run.communicate() for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit("\n".join(errors for _, errors in told))
    rows = sum(json.loads(report)["rows"] for report, _ in told)
    times = [[float(line.split()[1]) for line in errors.splitlines() if line.startswith("shard")] for _, errors in told]
    warm = max(each[0] for each in times) if len(times) > 1 else times[0][1]
    later = sum(moment > warm for each in times for moment in each)
    seconds = max(each[-1] for each in times) - warm
    return {
        "rows": rows,
        "pairs_per_second": round(later * options.shard_rows / seconds, 1),
        "total_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(sum(os.times()[2:4]) - cpu, 1),
    }


def main() -> None:
    """Measure in turns and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4, help="layers of 256 x 256 of the model")
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--shard-rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "score_ray.json")
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="relevance-ray-scale-") as name:
        folder = Path(name)
        options.bundle = folder / "bundle"
        manifest = tiny_bundle(options.bundle, hidden=256, depth=options.depth)
        make(folder / "all.jsonl", options.rows, options.bundle)
        lines = (folder / "all.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        halves = [folder / "even.jsonl", folder / "odd.jsonl"]
        for place, half in enumerate(halves):
            half.write_text("".join(lines[place::2]), encoding="utf-8")
        for _ in range(options.rounds):
            load = [round(value, 1) for value in os.getloadavg()]
            plain = measure(options, halves, folder)
            ray = measure(options, [folder / "all.jsonl"], folder, "--ray=local", "--actors=2")
            share = round(ray["pairs_per_second"] / plain["pairs_per_second"], 3)
            rounds.append({"load_average": load, "plain": plain, "ray": ray, "ray_share_of_plain": share})
            print(json.dumps(rounds[-1]), file=sys.stderr)
    result = {
        "command": "python benchmarks/scale/score_ray.py " + " ".join(sys.argv[1:]),
        "created": now(),
        "source_commit": source_commit(),
        "cores": len(os.sched_getaffinity(0)),
        "data": "rows of the synthetic sample; nothing here is about quality",
        "model": f"{manifest.name}, {options.depth} layers of 256 x 256 over bytes",
        "rows": options.rows,
        "shard_rows": options.shard_rows,
        "median_ray_share_of_plain": statistics.median(each["ray_share_of_plain"] for each in rounds),
        "rounds": rounds,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
