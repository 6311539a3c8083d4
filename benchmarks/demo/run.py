"""The time of the README's first command for a new user: `python benchmarks/demo/run.py` (standard library only).

Clones the committed tree into an empty folder, runs `make demo` there with empty caches (installation included) until
the fine-tuned models answer, asks them to rank the showcase queries of the SYNTHETIC sample, stops the demo, and runs
it a second time. Times of the first score and of the end are seconds of the clock; `first_score_after_installation`
ends when the untuned encoder has answered. Writes `results.json` in this folder.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PORT = 8097
LIMIT_SECONDS = 3600
RANK_SCRIPT = """
import json
from training.sample.shop import showcase
for entry in showcase():
    print(json.dumps([entry.language, entry.query, entry.category_path, list(entry.candidates)]))
"""


@contextmanager
def demo(clone: Path, environment: dict[str, str], log: Path) -> Iterator[dict[str, float]]:
    """Run `make demo` until the fine-tuned models answer and yield the seconds of its steps; stop it at the end."""
    begun, seconds = time.monotonic(), {}
    with log.open("w") as stream:
        child = subprocess.Popen(
            ["make", "demo"], cwd=clone, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        for name, has_come in STEPS.items():
            while not has_come(log.read_text()):
                if child.poll() is not None or time.monotonic() - begun > LIMIT_SECONDS:
                    sys.exit(f"error: make demo ended without being ready; see {log}")
                time.sleep(0.1)
            seconds[name] = time.monotonic() - begun
        yield seconds
    finally:
        os.killpg(child.pid, signal.SIGINT)
        child.wait()


def scores(query: str, language: str, candidates: list[str]) -> list[float]:
    """Return the scores of a query's candidates, as the service gives them."""
    body = {"task": "qc", "query": query, "language": language, "candidates": candidates}
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/score", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return [entry["score"] for entry in json.load(urllib.request.urlopen(request))["scores"]]


def answers(_: str) -> bool:
    """Return whether the service scores a query."""
    try:
        return bool(scores("コーヒーカップ", "ja", ["coffee cups & mugs"]))
    except OSError:
        return False


STEPS = {"installed": lambda said: "Demo in" in said, "first_score": answers, "ready": lambda said: "Ready:" in said}


def ranks(clone: Path) -> list[dict[str, Any]]:
    """Return, for every showcase query, the rank of the right category among its ten candidates."""
    command = [clone / ".venv/bin/python", "-c", RANK_SCRIPT]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=clone).stdout.splitlines()
    found = []
    for language, query, right, candidates in map(json.loads, lines):
        given = scores(query, language, candidates)
        rank = 1 + sum(score > given[candidates.index(right)] for score in given)
        found.append({"language": language, "query": query, "rank": rank, "of": len(candidates)})
    return found


def training_languages(clone: Path) -> list[str]:
    """Return the languages of the sample's QC training rows."""
    with (clone / "build/demo/sample/train_QC.txt").open(encoding="utf-8") as rows:
        return sorted({json.loads(row)["language"] for row in rows})


def main() -> None:
    """Measure and write JSON."""
    folder = Path(tempfile.mkdtemp(prefix="relevance-demo-"))
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    caches = {"RELEVANCE_CACHE": str(folder / "cache"), "PIP_NO_CACHE_DIR": "1", "PORT": str(PORT)}
    environment = {**os.environ, **caches}
    environment.pop("VIRTUAL_ENV", None)
    load = os.getloadavg()[0]
    with demo(clone, environment, folder / "first.log") as first:
        showcase = ranks(clone)
    with demo(clone, environment, folder / "second.log") as second:
        pass
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True)
    result = {
        "command": "python benchmarks/demo/run.py",
        "source_commit": commit.stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "data": "the embedded sample: synthetic, no benchmark of quality",
        "load_before": round(load, 2),
        "installation_seconds": round(first["installed"]),
        "first_score_after_installation_seconds": round(first["first_score"] - first["installed"]),
        "first_run_seconds": round(first["ready"]),
        "second_run_seconds": round(second["ready"], 1),
        "training_languages": training_languages(clone),
        "showcase_ranked_first": sum(entry["rank"] == 1 for entry in showcase),
        "showcase": showcase,
    }
    (HERE / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "showcase"}, indent=1))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
