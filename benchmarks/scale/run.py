"""Time and memory of the data stages at the competition's size: `python benchmarks/scale/run.py [--task qi]`.

Makes 300,000 rows from several seeds of the SYNTHETIC sample (nothing here is about quality) and runs clean, split,
mine and report on them, each in a process of its own that starts Python, reads its input, works and writes its output.
A stage's seconds are those of its whole process, and its memory is the process's peak (VmHWM, so Linux only). CPU
seconds, of all threads, are more reliable on a machine with other work. Making the rows does not count, nor does making
the embeddings, which mining receives. Writes `TASK.json` in this folder.

The sample has 84 category paths; real QC data has about one path for every four rows. So each path gets numbered
subcategories here, `--paths` in all. Mining makes one negative of every positive row, many more than by default.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import with_shelves

from relevance.model.cores import processor
from relevance.tasks import LabeledPair, Task, query_key
from relevance.text.formatting import PairFormat
from training.data.dataset import read_pairs
from training.data.provenance import now, source_commit
from training.data.splits import split_pairs, write_pairs

HERE = Path(__file__).parent
STAGES = ("clean", "split", "mine", "report")
LIMIT_SECONDS, LIMIT_MIB = 300, 4096
DIMENSIONS = 384
PLAIN = PairFormat()
_SPLITS = ("train", "dev", "test")


class GivenEmbeddings:
    """Unit vectors drawn by the text, those of a query near that of its first positive candidate (cosine about 0.7).

    `seconds` and `cpu_seconds` are spent here: a real run has these vectors on disk.
    """

    name = "random unit vectors"

    def __init__(self, rows: Sequence[LabeledPair], task: Task, form: PairFormat = PLAIN) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._near: dict[str, str] = {}
        for row in rows:
            if row.label == 1:
                candidate = form.candidate_text(task, row.pair.candidate)
                self._near.setdefault(form.query_text(row.pair.query), candidate)

    @property
    def queries(self) -> list[str]:
        """The queries of positive rows."""
        return list(self._near)

    def embed(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        """Return float32 [N, 384]."""
        begun, cpu_begun = time.perf_counter(), time.process_time()
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for at, text in enumerate(texts):
            vectors[at] = _drawn(text)
            if prefix == "query: " and text in self._near:
                vectors[at] += _drawn(self._near[text])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - begun
        self.cpu_seconds += time.process_time() - cpu_begun
        return vectors


def _drawn(text: str) -> NDArray[np.float32]:
    return np.random.Generator(np.random.SFC64(zlib.crc32(text.encode()))).standard_normal(DIMENSIONS, np.float32)


def make(file: Path, task: Task, count: int, paths: int) -> dict[str, Any]:
    """Write `count` rows from as many seeds of the sample as needed; return counts of them."""
    from training.sample.generate import generate
    from training.sample.plan import LARGEST_SCALE, SampleSettings
    from training.sample.shop import load_shop

    shop = load_shop()
    rows: list[LabeledPair] = []
    seeds = 0
    while len(rows) < count:
        for split, made in generate(task, SampleSettings(seeds, LARGEST_SCALE), shop).items():
            rows += [replace(row, id=f"{seeds}-{split}-{row.id}") for row in made]
        seeds += 1
    rng = random.Random(0)
    rows = sorted(rng.sample(rows, count), key=lambda row: row.id)
    if task is Task.QC:
        rows = with_shelves(rows, paths, rng)
    write_pairs(file, rows, task)
    return {
        "seeds": seeds,
        "rows": len(rows),
        "positive": sum(row.label for row in rows),
        "languages": len({row.pair.language for row in rows}),
        "distinct_queries": len({query_key(row.pair.query) for row in rows}),
        "distinct_candidates": len({row.pair.candidate for row in rows}),
    }


@dataclass(frozen=True)
class Done:
    """The result of a stage: rows by file name, figures for the report, and the embeddings that it used."""

    made: dict[str, list[LabeledPair]]
    facts: dict[str, Any]
    given: GivenEmbeddings | None = None


def run_stage(stage: str, task: Task, folder: Path, mining: Mapping[str, Any]) -> dict[str, Any]:
    """Run one stage from its input files to its output files; return its facts with the seconds of each part."""
    inputs = {"clean": ["rows"], "split": ["clean"], "mine": ["clean"], "report": [*_SPLITS]}[stage]
    begun = time.perf_counter()
    files = {name: read_pairs(folder / f"{name}.jsonl", task).rows for name in inputs}
    read = time.perf_counter()
    if stage == "clean":
        done = _clean(files["rows"], task)
    elif stage == "split":
        done = Done(split_pairs(files["clean"], seed=0), {})
    elif stage == "mine":
        done = _mine(files["clean"], task, mining)
    else:
        done = _report(files, task, folder / "report.html")
    worked = time.perf_counter()
    for name, rows in done.made.items():
        write_pairs(folder / f"{name}.jsonl", rows, task)
    given, given_cpu = (done.given.seconds, done.given.cpu_seconds) if done.given else (0.0, 0.0)
    parts = {"read": read - begun, "work": worked - read - given, "write": time.perf_counter() - worked}
    return {
        "rows_in": sum(map(len, files.values())),
        "rows_out": sum(map(len, done.made.values())),
        "parts_seconds": {name: round(seconds, 2) for name, seconds in parts.items()},
        "cpu_seconds": round(time.process_time() - given_cpu, 1),
        "embedding_seconds": round(given, 2),
        **done.facts,
    }


def _clean(rows: Sequence[LabeledPair], task: Task) -> Done:
    from training.cleaning.options import CleaningOptions
    from training.cleaning.stage import clean

    cleaned, report = clean(rows, task, CleaningOptions())
    outcomes = report.tags.outcomes if report.tags else {}
    return Done({"clean": cleaned}, {"tag_outcomes": outcomes, "merged_rows": report.votes.merged_rows})


def _mine(rows: Sequence[LabeledPair], task: Task, mining: Mapping[str, Any]) -> Done:
    from training.negatives.options import NegativeOptions
    from training.negatives.sampling import sample_negatives

    encoder = GivenEmbeddings(rows, task)
    mined, report = sample_negatives(rows, task, NegativeOptions.model_validate(mining), encoder)
    facts = {"options": dict(mining), "made": report.made, "candidates": report.candidates}
    return Done({"mined": mined}, facts, encoder)


def _report(files: Mapping[str, Sequence[LabeledPair]], task: Task, out: Path) -> Done:
    from training.reports.data_page import render
    from training.reports.measures import measure

    page = render(measure(files, task))
    out.write_text(page, encoding="utf-8")
    return Done({}, {"page_bytes": len(page.encode())})


def peak_mib() -> float:
    """Return the peak of the resident memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise SystemExit("error: no VmHWM in /proc/self/status; expected Linux")


def in_process(script: str, arguments: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run a script in a process of its own; return what it prints and the seconds of the whole process."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - begun


def measure_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all stages; return the result."""
    shared = [f"--task={options.task}", f"--rows={options.rows}", f"--paths={options.paths}", f"--folder={folder}"]
    shared += [f"--strategy={options.strategy}", f"--per-positive={options.per_positive}"]
    data, _ = in_process(__file__, ["--stage=make", *shared])
    stages = {}
    for stage in STAGES:
        facts, seconds = in_process(__file__, [f"--stage={stage}", *shared])
        stages[stage] = {"seconds": round(seconds - facts["embedding_seconds"], 1), **facts}
        print(f"{stage}: {stages[stage]['seconds']} s, {facts['peak_mib']} MiB", file=sys.stderr)
    total, cpu, peak = (
        pick(found[name] for found in stages.values())
        for name, pick in (("seconds", sum), ("cpu_seconds", sum), ("peak_mib", max))
    )
    return {
        "data": {"note": "synthetic, see the top of run.py", **data},
        "total_seconds": round(total, 1),
        "total_cpu_seconds": round(cpu, 1),
        "peak_mib": peak,
        "limits": {"total_seconds": LIMIT_SECONDS, "peak_mib": LIMIT_MIB},
        "within_limits": total < LIMIT_SECONDS and peak < LIMIT_MIB,
        "stages": stages,
    }


def machine() -> dict[str, Any]:
    """Return what the machine is and what else it does."""
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    load = [round(value, 2) for value in os.getloadavg()]
    facts = {"cores": cores, "omp_num_threads": threads, "load_average_before": load}
    return {**facts, "processor": processor(), "python": platform.python_version(), "numpy": np.__version__}


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON; with --stage, run that stage alone and print its facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Task, choices=list(Task), default=Task.QC)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--paths", type=int, default=4_000, help="different category paths (QC)")
    parser.add_argument("--strategy", default="easy", help="of mining: random, easy, hard or mixed")
    parser.add_argument("--per-positive", type=int, default=1, help="of mining: negatives a positive row")
    parser.add_argument("--out", type=Path, help="the file to write [TASK.json beside this file]")
    parser.add_argument("--stage", choices=["make", *STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage == "make":
        print(json.dumps(make(options.folder / "rows.jsonl", options.task, options.rows, options.paths)))
    elif options.stage:
        mining = {"strategy": options.strategy, "per_positive": options.per_positive}
        facts = run_stage(options.stage, options.task, options.folder, mining)
        print(json.dumps({"peak_mib": peak_mib(), **facts}))
    else:
        head = {"command": " ".join(["python benchmarks/scale/run.py", *arguments]), "created": now()}
        head |= {"source_commit": source_commit(), "machine": machine()}
        with tempfile.TemporaryDirectory(prefix="relevance-scale-") as folder:
            result = head | measure_all(options, Path(folder))
        out = options.out or HERE / f"{options.task}.json"
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(
            json.dumps(
                {key: result[key] for key in ("total_seconds", "total_cpu_seconds", "peak_mib", "within_limits")}
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
