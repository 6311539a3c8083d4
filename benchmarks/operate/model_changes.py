"""What callers see when the model changes: `python benchmarks/operate/model_changes.py BUNDLE OUT.json`.

A real server process on loopback receives requests at a constant rate (open loop: sending does not wait for answers)
while an operator switches 20 times between the bundle and a copy of it whose graph adds 1 to each logit. The script
counts requests that fail, and answers with a score of another version than they name. It reports latencies of requests
that overlap a switch separately from the others, and requests `/healthz` all the time, which shows how long the event
loop blocks. Client and server share the machine.
"""

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
from onnx import helper, numpy_helper

from relevance.model.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.model.card import TOKENIZER_FILE
from relevance.model.cores import processor
from relevance.model.session import onnxruntime
from relevance.tasks import Pair
from service.runtime.session import Engine
from training.data.provenance import now, source_commit

SWITCHES, PAUSE_SECONDS, RATE, CANDIDATES = 20, 2.0, 5.0, 4
PROBE_SECONDS, TOLERANCE = 0.02, 1e-3


@dataclass(frozen=True)
class Sent:
    """A request: when it was due, when its answer arrived, its status (0: no answer), and whether versions mix."""

    due: float
    done: float
    status: int
    mixed: bool = False


def shifted(bundle: Bundle, folder: Path) -> Bundle:
    """Write a bundle whose logits are those of another plus 1."""
    folder.mkdir()
    model = onnx.load(str(bundle.folder / MODEL_FILE))
    output = bundle.manifest.output_name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["unshifted" if name == output else name for name in names]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "shift"))
    model.graph.node.append(helper.make_node("Add", ["unshifted", "shift"], [output]))
    onnx.save(model, str(folder / MODEL_FILE))
    (folder / TOKENIZER_FILE).write_bytes((bundle.folder / TOKENIZER_FILE).read_bytes())
    golden = [each.model_copy(update={"logit": each.logit + 1}) for each in bundle.golden]
    write_bundle_files(folder, bundle.manifest, golden)
    return Bundle.open(folder)


def scores_of(bundle: Bundle, pairs: Sequence[Pair]) -> list[float]:
    """Return the scores that a bundle's model gives."""
    engine = Engine(bundle)
    logits = engine.logits(engine.inputs.encode(pairs))
    return bundle.manifest.scores(logits).tolist()


class Callers:
    """Send requests at a constant rate and check every answer."""

    def __init__(self, url: str, task: str, pairs: Sequence[Pair], expected: dict[str, list[float]]) -> None:
        self.sent: list[Sent] = []
        self.probes: list[Sent] = []
        self._client = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None))
        self._expected = expected
        rows = [{"query": pair.query, "candidate": pair.candidate, "language": pair.language} for pair in pairs]
        self._body = {"task": task, "pairs": rows}

    async def call(self, until: asyncio.Event) -> None:
        """Send requests until the event is set, and wait for those in flight."""
        under_way, due = [], time.perf_counter()
        while not until.is_set():
            under_way.append(asyncio.create_task(self._request(due)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*under_way)

    async def probe(self, until: asyncio.Event) -> None:
        """Request `/healthz` repeatedly."""
        while not until.is_set():
            due = time.perf_counter()
            answer = await self._client.get("/healthz")
            self.probes.append(Sent(due, time.perf_counter(), answer.status_code))
            await asyncio.sleep(PROBE_SECONDS)

    async def _request(self, due: float) -> None:
        try:
            answer = await self._client.post("/v1/score", json=self._body)
        except httpx.HTTPError:
            self.sent.append(Sent(due, time.perf_counter(), 0))
            return
        done, mixed = time.perf_counter(), False
        if answer.status_code == 200:
            found = answer.json()
            expected = np.array(self._expected[found["model"]["version"]])
            mixed = bool(np.abs(expected - [each["score"] for each in found["scores"]]).max() > TOLERANCE)
        self.sent.append(Sent(due, done, answer.status_code, mixed))


async def switch_under_load(
    callers: Callers, admin_url: str, task: str, bundles: Sequence[Bundle]
) -> dict[str, object]:
    """Switch between the bundles while the callers send; return what they saw."""
    done, switches = asyncio.Event(), []
    calling = asyncio.gather(callers.call(done), callers.probe(done))
    async with httpx.AsyncClient(base_url=admin_url, timeout=600) as admin:
        memory = [await resident_megabytes(admin)]
        for number in range(SWITCHES):
            await asyncio.sleep(PAUSE_SECONDS)
            began, target = time.perf_counter(), bundles[(number + 1) % 2]
            body = {"bundle": str(target.folder), "mode": "switch"}
            answer = (await admin.post(f"/v1/admin/models/{task}", json=body)).raise_for_status().json()
            switches.append((began, time.perf_counter()))
            if answer["active"]["version"] != target.manifest.version:
                raise SystemExit(f"error: {answer}")
            memory.append(await resident_megabytes(admin))
        await asyncio.sleep(PAUSE_SECONDS)
        done.set()
        await calling
    seconds = [end - began for began, end in switches]
    return {
        "switches": len(switches),
        "switch_seconds": {"median": float(np.median(seconds)), "largest": max(seconds)},
        "requests_sent": len(callers.sent),
        "requests_failed": sum(each.status != 200 for each in callers.sent),
        "statuses": Counter(each.status for each in callers.sent),
        "answers_of_mixed_versions": sum(each.mixed for each in callers.sent),
        "request_ms": by_switches(callers.sent, switches),
        "healthz_ms": by_switches(callers.probes, switches),
        "resident_megabytes": {"before": memory[0], "after_2": memory[2], "after_all": memory[-1], "most": max(memory)},
    }


def by_switches(sent: Sequence[Sent], switches: Sequence[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Return latencies in milliseconds during switches and between them."""
    during = [any(each.due < end and each.done > began for began, end in switches) for each in sent]
    found = {}
    for name, wanted in (("during_switches", True), ("between", False)):
        took = [
            1000 * (each.done - each.due) for each, is_during in zip(sent, during, strict=True) if is_during is wanted
        ]
        quantiles = {f"p{q}": float(np.percentile(took, q)) for q in (50, 99)}
        found[name] = {"count": len(took)} | quantiles | {"largest": max(took)}
    return found


async def resident_megabytes(admin: httpx.AsyncClient) -> float:
    """Return the memory of the server process."""
    page = (await admin.get("/metrics")).text
    line = next(line for line in page.splitlines() if line.startswith("relevance_resident_memory_bytes "))
    return round(float(line.split()[1]) / 1e6)


def serve(bundle: Bundle, root: Path) -> tuple[subprocess.Popen[str], str, str]:
    """Start the service on free ports; return it with the URLs of its API and of its admin interface."""
    command = [sys.executable, "-c", "from relevance.cli import main; main()", "serve"]
    environment = os.environ | {"RELEVANCE_ADMIN_PORT": "0", "RELEVANCE_BUNDLE_ROOT": str(root)}
    arguments = [f"--bundle={bundle.manifest.task}={bundle.folder}", "--port=0", "--log-level=INFO"]
    child = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    urls = {}
    for line in child.stderr or ():
        for name in ("admin interface at", "ready at"):
            if f'"{name}' in line:
                urls[name] = json.loads(line)["url"]
        if "ready at" in urls:
            threading.Thread(target=child.stderr.read, daemon=True).start()  # a full pipe would stop the service
            return child, urls["ready at"], urls["admin interface at"]
    raise SystemExit("error: the service did not start")


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    options, load = parser.parse_args(arguments), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        first = Bundle.open(options.bundle)
        (root / "first").mkdir()
        for file in first.folder.iterdir():
            (root / "first" / file.name).write_bytes(file.read_bytes())
        bundles = [Bundle.open(root / "first"), shifted(first, root / "second")]
        pairs = [golden.pair for golden in first.golden[:CANDIDATES]]
        expected = {bundle.manifest.version: scores_of(bundle, pairs) for bundle in bundles}
        task = first.manifest.task.value
        child, url, admin_url = serve(bundles[0], root)
        try:
            found = asyncio.run(switch_under_load(Callers(url, task, pairs, expected), admin_url, task, bundles))
        finally:
            child.terminate()
            child.wait()
    result = {
        "command": f"python benchmarks/operate/model_changes.py {shlex.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": {"cpus": os.cpu_count(), "processor": processor(), "onnxruntime": onnxruntime.__version__},
        "note": options.note,
        "load_average": {"at_start": load, "at_end": os.getloadavg()[0]},  # of one minute: above the cores, work waits
        "model": {"name": first.manifest.name, "megabytes": round((first.folder / MODEL_FILE).stat().st_size / 1e6)},
        "requests_per_second": RATE,
        "pairs_a_request": len(pairs),
        **found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
