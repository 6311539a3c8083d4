"""The servers of the comparison: how each is started on a free port, and how it is spoken to.

All serve one checkpoint: ours and LitServe its ONNX bundle, infinity and the plain server itself, by torch.
The peers run in a virtual environment of their own (PEERS_PYTHON), made as benchmarks/serving/README.md says.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from load.traffic import Dialect

from relevance.model.bundle import Bundle, Manifest
from relevance.tasks import Pair

PEERS = Path(__file__).parents[1] / "peers"
START_SECONDS = 600
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be started: its command with `{port}` in it, and what it answers with."""

    name: str
    command: tuple[str, ...]
    ready: str
    dialect: Dialect
    environment: Mapping[str, str]


def ours(bundle: Path, **settings: object) -> Server:
    """Return `relevance serve` over a bundle; settings as in service.settings."""
    manifest = Bundle.open(bundle).manifest
    command = (sys.executable, "-m", "relevance", "serve", f"--bundle={manifest.task}={bundle}", "--port={port}")
    environment = {f"RELEVANCE_{name.upper()}": str(value) for name, value in settings.items()}
    return Server(
        "relevance", command, "/readyz", our_dialect(manifest), {"RELEVANCE_LOG_LEVEL": "WARNING"} | environment
    )


def our_dialect(manifest: Manifest) -> Dialect:
    """Return how our service is spoken to."""

    def body(pairs: Sequence[Pair]) -> bytes:
        first = pairs[0]
        if all(pair.query == first.query for pair in pairs):
            shared = {"query": first.query, "language": first.language}
            return json.dumps({"task": manifest.task, **shared, "candidates": [p.candidate for p in pairs]}).encode()
        rows = [{"query": p.query, "candidate": p.candidate, "language": p.language} for p in pairs]
        return json.dumps({"task": manifest.task, "pairs": rows}).encode()

    return Dialect("/v1/score", body, lambda answer: [each["score"] for each in json.loads(answer)["scores"]])


def infinity(checkpoint: Path, manifest: Manifest, python: Path) -> Server:
    """Return infinity's torch engine (its optimum engine drops the token types and gives other scores)."""

    def body(pairs: Sequence[Pair]) -> bytes:
        texts = [manifest.format.texts(manifest.task, pair) for pair in pairs]
        return json.dumps({"model": "ce", "query": texts[0][0], "documents": [text for _, text in texts]}).encode()

    def scores(answer: bytes) -> list[float]:
        results = sorted(json.loads(answer)["results"], key=lambda each: each["index"])
        return [each["relevance_score"] for each in results]

    options = "v2 --engine torch --device cpu --served-model-name ce --no-bettertransformer --no-compile"
    command = (str(python.parent / "infinity_emb"), *options.split(), f"--model-id={checkpoint.resolve()}")
    address = ("--host=127.0.0.1", "--port={port}")
    return Server("infinity", (*command, *address), "/health", Dialect("/rerank", body, scores), QUIET)


def of_ours(name: str, script: str, folder: Path, manifest: Manifest, python: Path, *more: str) -> Server:
    """Return a server written for this comparison in peers/: it takes `pairs` of texts and answers `scores`.

    `more` are further arguments of its script.
    """

    def body(pairs: Sequence[Pair]) -> bytes:
        return json.dumps({"pairs": [manifest.format.texts(manifest.task, pair) for pair in pairs]}).encode()

    dialect = Dialect("/predict", body, lambda answer: json.loads(answer)["scores"])
    arguments = (str(folder.resolve()), str(manifest.max_length), "{port}", *more)
    return Server(name, (str(python), str(PEERS / script), *arguments), "/health", dialect, QUIET)


def peers(checkpoint: Path, bundle: Path, python: Path) -> list[Server]:
    """Return all peers over one checkpoint and the bundle exported from it."""
    manifest = Bundle.open(bundle).manifest
    return [
        of_ours("litserve", "litserve_onnx.py", bundle, manifest, python),
        infinity(checkpoint, manifest, python),
        of_ours("plain", "plain.py", checkpoint, manifest, python),
    ]


@contextlib.contextmanager
def started(server: Server, log: Path | None = None) -> Iterator[tuple[str, int]]:
    """Start a server and yield its URL and process id once it is ready; end it and its children afterwards."""
    port = free_port()
    command = [part.format(port=port) for part in server.command]
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        environment = os.environ | dict(server.environment)
        child = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(server, url + server.ready, child)
            yield url, child.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 15)
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                child.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_ready(server: Server, url: str, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if child.poll() is not None:
            raise SystemExit(f"error: {server.name} ended with status {child.returncode} at its start")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"error: {server.name} was not ready after {START_SECONDS} s")
