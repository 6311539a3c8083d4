"""What the Python around the session costs: `python benchmarks/serving/null_model.py BUNDLE ROWS OUT.json`.

A real server process on loopback whose session is replaced by one that returns zeros: HTTP, validation, tokenisation,
batching, padding and answers are the real ones. Requests of 500 candidates, four at a time, from a client on the same
cores: with candidates that recur (a pool of 2,000, as a catalogue's categories do) and with text never seen before.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from results.report import about, write

from relevance.model.bundle import Bundle
from relevance.text.tokenization import TokenizedPair
from service.observability.logs import configure_logging
from service.process.server import serve
from service.runtime.session import Engine
from service.settings import Settings
from training.data.dataset import read_pairs

CANDIDATES, CONCURRENT, POOL, SECONDS, WARM_REQUESTS = 500, 4, 2000, 8.0, 12
BATCH_TOKENS = 16_384  # as on a GPU: a model that takes no time has no use for short runs


class NullEngine(Engine):
    """An engine without a session: pads its batches and answers zeros."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.tokenizer = bundle, bundle.tokenizer()
        self.device, self.golden_difference = "cpu", 0.0

    def logits(self, pairs: Sequence[TokenizedPair], width: int = 0) -> NDArray[np.float32]:
        self.tokenizer.collate(pairs, width)
        return np.zeros(len(pairs), dtype=np.float32)


def serve_null(bundle: Path) -> None:
    settings = Settings(port=0, max_batch_tokens=BATCH_TOKENS, log_level="INFO")
    configure_logging(settings.log_level)
    serve(settings, {Bundle.open(bundle).manifest.task: bundle}, lambda opened, settings: NullEngine(opened))


def start(bundle: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the server and return it with its URL once it is ready."""
    child = subprocess.Popen([sys.executable, __file__, "--serve", str(bundle)], stderr=subprocess.PIPE, text=True)
    for line in child.stderr or ():
        if '"ready at' in line:
            threading.Thread(target=child.stderr.read, daemon=True).start()  # a full pipe would stop the server
            return child, json.loads(line)["url"]
    raise SystemExit("error: the server did not start")


def candidates(known: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Yield different texts without end: the words of a real candidate in another order, and a number."""
    for number in itertools.count():
        words = f"{rng.choice(known)} {number}".split(" ")
        rng.shuffle(words)
        yield " ".join(words)


def requests(task: str, queries: Sequence[str], texts: Iterator[str], count: int, *, fresh: bool) -> list[bytes]:
    """Return bodies; recurring candidates are drawn from a pool, fresh ones occur once."""
    rng = random.Random(0)
    pool = list(itertools.islice(texts, POOL))
    bodies = []
    for _ in range(count):
        chosen = list(itertools.islice(texts, CANDIDATES)) if fresh else rng.sample(pool, CANDIDATES)
        bodies.append(json.dumps({"task": task, "query": rng.choice(queries), "candidates": chosen}).encode())
    return bodies


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, on all cores: it hardly depends on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """Post one body over a kept connection; return the answer's body. As little client as possible."""
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
    content = await reader.readexactly(length)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"error: {answer!r} {content[:300]!r}")
    return content


async def measure(url: str, bodies: Sequence[bytes], *, recur: bool) -> dict[str, float]:
    """Post bodies for some seconds, or until the fresh ones are used up; return pairs a second and latencies."""
    latencies: list[float] = []
    left = iter(bodies)
    until = time.perf_counter() + SECONDS

    async def caller() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port, limit=2**22)
        while time.perf_counter() < until:
            body = next(left, None)
            if body is None:
                if not recur:
                    break
                left = iter(bodies)
                continue
            begun = time.perf_counter()
            await call(reader, writer, body)
            latencies.append(1000 * (time.perf_counter() - begun))
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENT)))
    seconds = time.perf_counter() - begun
    percentiles = {f"p{q}_ms": float(np.percentile(latencies, q)) for q in (50, 95, 99)}
    return {"requests": len(latencies), "pairs_per_second": len(latencies) * CANDIDATES / seconds} | percentiles


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON; with --serve, be the server."""
    if arguments[0] == "--serve":
        serve_null(Path(arguments[1]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    manifest = Bundle.open(options.bundle).manifest
    pairs = [row.pair for row in read_pairs(options.rows, manifest.task).rows]
    queries = sorted({pair.query for pair in pairs})
    texts = candidates(sorted({pair.candidate for pair in pairs}), random.Random(1))
    child, url = start(options.bundle)
    found = {}
    try:
        for name, fresh, count in (("recurring", False, 60), ("fresh", True, 400)):
            bodies = requests(manifest.task, queries, texts, count, fresh=fresh)
            asyncio.run(measure(url, bodies[:WARM_REQUESTS], recur=False))
            before = cpu_seconds(child.pid)
            found[name] = asyncio.run(measure(url, bodies[WARM_REQUESTS:], recur=not fresh))
            used = cpu_seconds(child.pid) - before
            found[name]["server_cpu_us_per_pair"] = 1e6 * used / (found[name]["requests"] * CANDIDATES)
    finally:
        child.terminate()
        child.wait()
    result = {
        **about(arguments),
        "candidates": CANDIDATES,
        "concurrent": CONCURRENT,
        "distinct_recurring_candidates": POOL,
        **found,
    }
    write(result, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
