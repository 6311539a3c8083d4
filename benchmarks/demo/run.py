"""The time of the README's first command for a new user: `python benchmarks/demo/run.py` (standard library only).

Clones the committed tree into an empty folder, runs `make demo` there with empty caches (installation included) until
the fine-tuned models answer, asks them to rank the showcase queries of the SYNTHETIC sample, stops the demo, and runs
it a second time. Times of the first score and of the end are seconds of the clock; `first_score_after_installation`
ends when the untuned encoder has answered. Where the first run's time went: `first_run_lines` has what the demo said
and when, `cpu_seconds` what each kind of process took, seen twice a second in /proc. Writes `results.json` in this
folder, and puts its times and the answer to the README's request into README.md.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from readme import renewed, request

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
README = ROOT / "README.md"
PORT = 8097
LIMIT_SECONDS = 3600
RANK_SCRIPT = """
import json
from training.sample.shop import showcase
for entry in showcase():
    print(json.dumps([entry.language, entry.query, entry.category_path, list(entry.candidates)]))
"""


# What a process does, by its command line.
KINDS = {
    "training and export of QC, untuned and fine-tuned": r"--part qc",
    "training and export of QI, untuned and fine-tuned": r"--part qi",
    "service": r"relevance serve ",
    "the demo itself": r"relevance demo ",
}


class Spent:
    """The CPU seconds of the processes of a session (`setsid`), by what they do, until `stop`."""

    def __init__(self, session: int) -> None:
        self._session, self._stopped = session, threading.Event()
        self._seen: dict[int, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Return the seconds by kind, the most first."""
        self._stopped.set()
        self._thread.join()
        total: Counter[str] = Counter()
        for kind, seconds in self._seen.values():
            total[kind] += seconds
        return {kind: round(seconds, 1) for kind, seconds in total.most_common()}

    def _watch(self) -> None:
        while not self._stopped.wait(0.5):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, ValueError):  # it has ended
                    self._look(folder)

    def _look(self, folder: Path) -> None:
        fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        if int(fields[3]) != self._session:
            return
        line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if line:  # else it has ended, and nobody has asked for its status yet
            kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, line)), "installation")
            self._seen[int(folder.name)] = kind, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def demo(clone: Path, environment: dict[str, str], log: Path) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """Run `make demo` until the fine-tuned models answer; stop it at the end.

    Yields the seconds of its steps on the clock, and the CPU seconds of its processes by kind.
    """
    begun, seconds = time.monotonic(), {}
    with log.open("w") as stream:
        child = subprocess.Popen(
            ["make", "demo"], cwd=clone, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    spent = Spent(child.pid)
    try:
        for name, has_come in STEPS.items():
            while not has_come(log.read_text()):
                if child.poll() is not None or time.monotonic() - begun > LIMIT_SECONDS:
                    sys.exit(f"error: make demo ended without being ready; see {log}")
                time.sleep(0.1)
            seconds[name] = time.monotonic() - begun
        yield seconds, spent.stop()
    finally:
        spent.stop()
        os.killpg(child.pid, signal.SIGINT)
        child.wait()


def scores(query: str, language: str, candidates: list[str]) -> list[float]:
    """Return the scores of a query's candidates, as the service gives them."""
    body = {"task": "qc", "query": query, "language": language, "candidates": candidates}
    return [entry["score"] for entry in answer(body)["scores"]]


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Return the service's answer to a request to score."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/score", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    found: dict[str, Any] = json.load(urllib.request.urlopen(asked))
    return found


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


def processor(clone: Path) -> str:
    """Return the name of the processor, as the demo's environment reads it."""
    command = [clone / ".venv/bin/python", "-c", "from relevance.model.cores import processor; print(processor())"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=clone).stdout.strip()


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
    for name in ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"):  # without bytecode every process compiles all it imports
        environment.pop(name, None)
    load = os.getloadavg()[0]
    with demo(clone, environment, folder / "first.log") as (first, spent):
        showcase = ranks(clone)
        shown = answer(request(README.read_text(encoding="utf-8")))
    with demo(clone, environment, folder / "second.log") as (second, _):
        pass
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True)
    result = {
        "command": "python benchmarks/demo/run.py",
        "source_commit": commit.stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "processor": processor(clone), "python": platform.python_version()},
        "data": "the embedded sample: synthetic, no benchmark of quality",
        "load_before": round(load, 2),
        "installation_seconds": round(first["installed"]),
        "first_score_after_installation_seconds": round(first["first_score"] - first["installed"]),
        "first_run_seconds": round(first["ready"]),
        "first_run_lines": re.findall(r"^\[ *\d+ s\] .*", (folder / "first.log").read_text(), re.MULTILINE),
        "cpu_seconds": spent,
        "second_run_seconds": round(second["ready"], 1),
        "training_languages": training_languages(clone),
        "showcase_ranked_first": sum(entry["rank"] == 1 for entry in showcase),
        "showcase": showcase,
        "answer": shown,
    }
    (HERE / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(renewed(README.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "showcase"}, indent=1))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
