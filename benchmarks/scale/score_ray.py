"""Two actors of Ray against two processes without it: `python benchmarks/scale/score_ray.py`.

The model is the tests' own: a byte tokeniser and a graph of `--depth` square layers, no trained model. Both score the
same synthetic rows with one thread each. `plain` is two commands `relevance score` at once, each with half of the rows;
`ray` is one command with `--ray local --actors 2`. They take turns, `--rounds` times. `end_to_end` counts pairs/s over
a whole run: starting Python, opening the model and, with Ray, starting Ray are in it. `scoring` counts them from the
first finished shard to the last: an actor that starts late lowers it. Writes `score_ray.json` beside this file. On a
machine with other work only the ratios of a round say something.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from relevance.model.bundle import Bundle
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


def make(file: Path, count: int, bundle: Path, candidates: int = 1) -> None:
    """Write rows of the SYNTHETIC sample, repeated with a number in the query, so that no two are equal.

    Each query stands in `candidates` rows, one after the other.
    """
    from training.sample.generate import generate
    from training.sample.plan import SampleSettings
    from training.sample.shop import load_shop

    task = Bundle.open(bundle).manifest.task
    rows = [row for made in generate(task, SampleSettings(0, 1.0), load_shop()).values() for row in made]
    with file.open("w", encoding="utf-8") as stream:
        for place in range(count):
            pair = rows[place % len(rows)].pair
            asked = rows[place // candidates % len(rows)].pair
            query = f"{asked.query} {place // candidates}"
            names = {"id": place, "origin_query": query, "language": asked.language}
            stream.write(json.dumps(names | {Task(task).candidate_field: pair.candidate}) + "\n")


def start(options: argparse.Namespace, file: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start a command that scores a file."""
    words = [options.bundle, file, out, "--json", "--threads=1", "--device=cpu", f"--shard-rows={options.shard_rows}"]
    command = [sys.executable, "-c", CHILD, "score", *map(str, words), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measure(options: argparse.Namespace, files: list[Path], folder: Path, *more: str) -> dict[str, Any]:
    """Score files at once, each by a command; return seconds and pairs/s of them together."""
    began = time.monotonic()
    runs = [start(options, file, folder / f"{file.stem}.out.jsonl", *more, "--overwrite") for file in files]
    told = [run.communicate() for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit("\n".join(errors for _, errors in told))
    rows = sum(json.loads(report)["rows"] for report, _ in told)
    times = [[float(line.split()[1]) for line in errors.splitlines() if line.startswith("shard")] for _, errors in told]
    seconds = time.monotonic() - began
    first, last = min(each[0] for each in times), max(each[-1] for each in times)
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "end_to_end": round(rows / seconds, 1),
        "scoring": round((rows - options.shard_rows) / (last - first), 1),
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
            shares = {name: round(ray[name] / plain[name], 3) for name in ("end_to_end", "scoring")}
            rounds.append({"load_average": load, "plain": plain, "ray": ray, "ray_share_of_plain": shares})
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
        "rounds": rounds,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
