"""Three fuzzers against the service: `python benchmarks/operate/fuzz.py OUT.json`.

Each attacks the real service or reader with a tiny bundle: schemathesis on all routes of the OpenAPI page, raw requests
that are not HTTP over sockets, and damaged bundles. Needs the package schemathesis. The seeds determine every input.
"""

import argparse
import asyncio
import json
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from relevance.errors import RelevanceError
from relevance.model.cores import processor
from relevance.tasks import ANALYTICUP_TASKS
from service.auth.key_file import entry, new_secret
from tests.malformed import SCORE, malformed, send_all
from tests.openapi_fuzz import fuzz
from tests.serving import Process, running
from tests.spoiled import files_opened, read, spoil, strays
from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit

BATCH = 100


def faults(process: Process) -> int:
    """Return how many lines of the process are tracebacks or no log lines; one more if the process has ended."""
    lines = sum('"traceback"' in line or not line.startswith("{") for line in process.lines)
    return lines + (process.child.poll() is not None)


def of_openapi(folder: Path, examples: int, seed: int) -> dict[str, Any]:
    """Run schemathesis over all routes, with API keys on."""
    secret, began = new_secret(), time.monotonic()
    (folder / "keys.toml").write_text(entry("fuzz", secret, ["score"]), encoding="utf-8")
    with running({"qc": folder / "qc", "qi": folder / "qi"}, api_keys=folder / "keys.toml") as process:
        report = fuzz(process.wait_ready(), secret, examples, seed)
        broken = faults(process)
    statuses: Counter[str] = Counter()
    for name, count in report.requests.items():
        statuses[name.rsplit(" ")[-1]] += int(count)
    return {
        "operations": report.operations,
        "inputs": report.generated,
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "requests_by_route_and_status": {name: int(count) for name, count in report.requests.items()},
        "server_errors": sum(count for status, count in statuses.items() if status.startswith("5")),
        "undocumented_or_other_findings": report.output.count("Test Case ID"),
        "schemathesis_exit_code": report.exit_code,
        "faults": broken,
        "seconds": round(time.monotonic() - began, 1),
    }


def of_sockets(folder: Path, batches: int, seed: int) -> dict[str, Any]:
    """Send raw requests; after each batch the service must be ready and score as before."""
    statuses: Counter[str] = Counter()
    began, wrong = time.monotonic(), 0
    with running({"qc": folder / "qc"}) as process, httpx.Client(base_url=process.wait_ready(), timeout=60) as client:
        url = urlsplit(process.wait_ready())
        expected = client.post("/v1/score", json=SCORE).json()
        for batch in range(batches):
            statuses += asyncio.run(
                send_all(str(url.hostname), int(url.port or 0), list(malformed(seed + batch, BATCH)))
            )
            alive = client.get("/readyz").status_code == 200
            wrong += not alive or client.post("/v1/score", json=SCORE).json() != expected
        broken = faults(process)
    return {
        "inputs": batches * BATCH,
        "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(count for status, count in statuses.items() if status.startswith("5")),
        "batches_after_which_it_did_not_answer_as_before": wrong,
        "faults": broken,
        "seconds": round(time.monotonic() - began, 1),
    }


def of_bundles(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Damage bundles and open them. Any other exception than RelevanceError is a failure, and so is a stray file."""
    outcomes: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    touched, began = 0, time.monotonic()
    for number in range(count):
        with tempfile.TemporaryDirectory() as place:
            bundle = Path(shutil.copytree(folder / "qc", Path(place) / "around" / "qc"))
            ways[spoil(bundle, Random(seed + number))] += 1
            before = sorted(Path(place).rglob("*"))
            with files_opened() as opened:
                outcomes[_outcome(bundle)] += 1
            touched += bool(strays(bundle, opened)) or sorted(Path(place).rglob("*")) != before
    return {
        "inputs": count,
        "outcomes": dict(sorted(outcomes.items())),
        "ways": dict(sorted(ways.items())),
        "other_exceptions": sum(number for name, number in outcomes.items() if name.startswith("fault")),
        "read_or_written_outside": touched,
        "seconds": round(time.monotonic() - began, 1),
    }


def _outcome(bundle: Path) -> str:
    try:
        read(bundle)
    except RelevanceError as error:
        return f"refused: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"fault: {type(error).__name__}"
    return "read"


def main(arguments: Sequence[str]) -> None:
    """Run all three and write JSON; exit with status 1 if any found a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=150, help="random requests of each route")
    parser.add_argument("--batches", type=int, default=40, help=f"of {BATCH} raw requests")
    parser.add_argument("--bundles", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for task in ANALYTICUP_TASKS:
            tiny_bundle(folder / task.value, task)
        parts = {
            "openapi": of_openapi(folder, options.examples, options.seed),
            "sockets": of_sockets(folder, options.batches, options.seed),
            "bundles": of_bundles(folder, options.bundles, options.seed),
        }
    result: dict[str, Any] = {
        "command": f"python benchmarks/operate/fuzz.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "processor": processor(),
        "python": platform.python_version(),
        "seed": options.seed,
    }
    options.out.write_text(json.dumps(result | parts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result | parts, indent=1))
    bad = ("server_errors", "undocumented_or_other_findings", "faults", "other_exceptions", "read_or_written_outside")
    bad += ("batches_after_which_it_did_not_answer_as_before", "schemathesis_exit_code")
    sys.exit(any(part.get(name) for part in parts.values() for name in bad))


if __name__ == "__main__":
    main(sys.argv[1:])
