"""The feedback loop with a real service: `python benchmarks/operate/feedback_loop.py OUT.json [--scale S]`.

On the SYNTHETIC sample (training/sample/README.md), with synthetic users: they click by the sample's truth, look less
the further down a candidate stands, and err. So this shows that the loop works and loses nothing, not what real clicks
are worth.

1. A small QC model is trained on few labelled rows, exported and served with the feedback log on, without texts.
2. Each training query of the sample is scored with its true category and others. A user sees the list by score, clicks,
   and the page reports what was shown and clicked to `POST /v1/feedback`.
3. `relevance data from-logs` makes training rows of the log; the texts come from the sample's file.
4. The same recipe is trained on these rows, by no label of the sample. `relevance evaluate --against` compares both
   models on the sample's held-out test rows, by their true labels. Dev rows of the sample choose both thresholds.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from relevance.tasks import LabeledPair, Task
from tests.serving import running
from training.data.dataset import read_pairs
from training.data.provenance import now, source_commit
from training.data.splits import write_pairs

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "training" / "demo" / "qc.toml"
SMALL = ["encoder.layers=2", "training.epochs=1", "training.evaluations=1", "training.learning_rate=4e-4"]
SMALL += ["training.head_learning_rate=1e-3"]
FIRST_ROWS = 100
OTHERS = 5  # wrong categories in a list
LOOKED = 0.85  # probability of looking at the next candidate, after each one
CLICKED = {True: 0.7, False: 0.03}  # probability of a click on a candidate that is looked at, by truth
PRIOR = "0.2:0.8"  # of click rates: each pair is seen once, so a prior cannot be fitted


@dataclass
class Counts:
    """What the users did."""

    queries: int = 0
    shown: int = 0
    clicks: int = 0
    wrong_clicks: int = 0


def relevance(*words: object) -> str:
    """Run a command of `relevance` and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "relevance", *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"relevance {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def truthful(path: Path) -> list[LabeledPair]:
    """Return the rows of a file of the sample with their true labels."""
    return [replace(row, label=int(row.extra["true_label"])) for row in read_pairs(path, Task.QC).rows]


def trained(folder: Path, rows: Path, dev: Path) -> Path:
    """Train the small recipe on rows and return the checkpoint."""
    settings = [word for setting in SMALL for word in ("--set", setting)]
    relevance("train", RECIPE, folder, "--train", rows, "--dev", dev, *settings)
    return folder


def use(url: str, rows: Sequence[LabeledPair], seed: int) -> Counts:
    """Let synthetic users ask each query of the rows once, look and click."""
    rng, counts = random.Random(seed), Counts()
    truth = {(row.pair.query, row.pair.candidate) for row in rows if row.label}
    categories = sorted({row.pair.candidate for row in rows})
    asked = {row.pair.query: row for row in rows if row.label}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number, row in enumerate(asked.values()):
            query, name = row.pair.query, f"search-{number}"
            candidates = list(dict.fromkeys([row.pair.candidate, *rng.sample(categories, OTHERS)]))
            rng.shuffle(candidates)
            body = {"task": "qc", "query": query, "candidates": candidates, "language": row.pair.language}
            answer = client.post("/v1/score", json=body, headers={"X-Request-Id": name}).raise_for_status().json()
            scores = [each["score"] for each in answer["scores"]]
            events: list[dict[str, Any]] = []
            for position, index in enumerate(sorted(range(len(candidates)), key=lambda place: -scores[place])):
                right = (query, candidates[index]) in truth
                events.append({"type": "shown", "index": index, "position": position})
                if rng.random() < CLICKED[right]:
                    events.append({"type": "click", "index": index, "position": position})
                    counts.clicks += 1
                    counts.wrong_clicks += not right
                counts.shown += 1
                if rng.random() > LOOKED:
                    break
            client.post("/v1/feedback", json={"request_id": name, "events": events}).raise_for_status()
            counts.queries += 1
    return counts


def loop(folder: Path, scale: float, seed: int = 0) -> dict[str, Any]:
    """Run the loop in an empty folder and return what came of it."""
    sample, log = folder / "sample", folder / "log"
    relevance("sample", sample, "--scale", scale)
    train, dev = sample / "train_QC.txt", sample / "dev_QC.txt"
    write_pairs(folder / "first.jsonl", read_pairs(train, Task.QC).rows[:FIRST_ROWS], Task.QC)
    before = trained(folder / "before", folder / "first.jsonl", dev)
    relevance("export", before, folder / "bundle")
    with running({"qc": folder / "bundle"}, feedback_folder=log) as process:
        counts = use(process.wait_ready(), truthful(train), seed)
        metrics = httpx.get(process.wait_ready() + "/metrics").text
        process.child.terminate()
        process.end()
    rows = folder / "rows.jsonl"
    report = json.loads(
        relevance("data", "from-logs", log, rows, "--task", "qc", "--texts", train, "--clicks", PRIOR, "--json")
    )
    after = trained(folder / "after", rows, dev)
    write_pairs(folder / "test.jsonl", truthful(sample / "test_QC.txt"), Task.QC)
    compared = json.loads(relevance("evaluate", after, folder / "test.jsonl", "--against", before, "--json"))
    lines = [line for line in metrics.splitlines() if line.startswith("relevance_feedback_dropped_total")]
    return {
        "users": asdict(counts),
        "dropped": sum(float(line.rsplit(" ", 1)[1]) for line in lines),
        "rows": {
            name: report[name]
            for name in (
                "lists",
                "events",
                "unmatched",
                "bad_lines",
                "rows",
                "positive",
                "clicks",
                "impressions",
                "prior",
            )
        },
        "test_rows": compared["all"]["rows"],
        "after_against_before": {
            key: compared["comparisons"][0][key] for key in ("verdict", "auc", "f1", "ndcg_at_10")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=0.5, help="of the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the users")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = loop(Path(folder), given.scale, given.seed)
    settings = {"first_rows": FIRST_ROWS, "others": OTHERS, "looked": LOOKED, "clicked_right": CLICKED[True]}
    settings |= {
        "clicked_wrong": CLICKED[False],
        "prior": PRIOR,
        "scale": given.scale,
        "seed": given.seed,
        "recipe": SMALL,
    }
    about = {"synthetic": True, "commit": source_commit(), "made": now(), "settings": settings}
    given.out.write_text(json.dumps(about | found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
