"""The service on a GPU beside the raw session: `python benchmarks/serving/gpu.py ROWS OUT.json BUNDLE...`

For each bundle, in one run and on the same pairs: the raw onnxruntime session over batches sorted by length (the
limit), then the service without and with CUDA graphs, then the raw session again. Of the service: latency by candidate
count, one request after another, and pairs a second with several callers at a time. `--peer CHECKPOINT` adds FastAPI
with sentence-transformers in fp16, with its usual 32 pairs a run and with 500. Client and server share the machine.
Without a GPU the same runs on the CPU. The result is written anew after each server: an interrupted run keeps its part.
"""

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import OURS, PATIENT
from load.raw import RawSession
from load.servers import Server, of_ours, ours, started
from load.traffic import Client, by_query, closed_loop, milliseconds, pairs_a_second
from results.report import about, model_of, pairs_of, write
from sweep import by_candidates, device_at, scores, sessions, told

from relevance.model.bundle import Bundle
from relevance.tasks import Pair

LOADS = ((1, 16), (1, 64), (100, 1), (100, 4), (100, 16), (500, 4), (500, 16))  # candidates, callers
RAW_BUDGETS = {"cpu": (512,), "cuda": (4096, 16_384, 65_536)}
RAW_RUNS = 5
PEERS = {"plain, 32 pairs a run": "32", "plain, 500 pairs a run": "500"}
RUNS = "relevance_batch_duration_seconds"


def raw_speeds(bundle: Bundle, pairs: Sequence[Pair], device: str) -> dict[str, list[float]]:
    """Return pairs a second of the raw session by padded tokens a run, some runs of each."""
    found = {}
    for budget in RAW_BUDGETS[device]:
        session = RawSession(bundle, pairs, budget, device)
        session.run()  # every shape once
        found[str(budget)] = [round(session.pairs_a_second(), 1) for _ in range(RAW_RUNS if device == "cuda" else 1)]
    return found


async def loaded(server: Server, url: str, pairs: Sequence[Pair], seconds: float) -> list[dict[str, Any]]:
    """Return pairs a second and latencies of each load."""
    client, found, is_ours = Client(url, server.dialect), [], server.name == OURS
    for candidates, callers in LOADS:
        stream = by_query(pairs, candidates)
        await closed_loop(client, itertools.islice(stream, 2 * callers), callers)
        before, began = told(url) if is_ours else {}, time.perf_counter()
        sent = await closed_loop(client, stream, callers, seconds)
        elapsed = time.perf_counter() - began
        load = {"candidates": candidates, "callers": callers, "requests": len(sent)}
        load |= {"failed": sum(each.status != 200 for each in sent), "pairs_per_second": pairs_a_second(sent)}
        load |= milliseconds(each.seconds for each in sent)
        found.append(load | (_in_runs(before, told(url), elapsed) if is_ours else {}))
    return found


def _in_runs(before: dict[str, float], after: dict[str, float], elapsed: float) -> dict[str, float]:
    """Return the share of the time that model runs took, and how many there were a second."""
    spent, runs = (after[name] - before[name] for name in (f"{RUNS}_sum", f"{RUNS}_count"))
    return {"share_of_time_in_runs": spent / elapsed, "runs_per_second": runs / elapsed}


def measure(server: Server, pairs: Sequence[Pair], expected: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is found of one server, its scores beside those of the raw session included."""
    with tempfile.TemporaryDirectory() as folder:
        log, began = Path(folder, "log"), time.perf_counter()
        with started(server, log) as (url, _):
            ready = time.perf_counter() - began
            found: dict[str, Any] = {"seconds_to_ready": ready}
            if server.name == OURS:
                found["device"] = device_at(url)
            shift = np.abs(np.array(asyncio.run(scores(server, url, pairs))) - expected)
            found["largest_score_difference"] = float(shift.max())
            found["by_candidates"] = asyncio.run(by_candidates(server, url, pairs, options.requests))
            found["by_load"] = asyncio.run(loaded(server, url, pairs, options.seconds))
        found["warnings"] = [
            line[:500] for line in log.read_text(errors="replace").splitlines() if "cuda_graphs" in line
        ]
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--peer", type=Path, help="checkpoint with a stock head, of the same model")
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--requests", type=int, default=1000, help="of single pairs; fewer of the larger ones")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended before all was measured"))  # and its server too
    device = "cuda" if len(sessions()) > 1 else "cpu"
    pairs = pairs_of(options.rows, Bundle.open(options.bundles[0]))
    checked = list(itertools.chain.from_iterable(itertools.islice(by_query(pairs, 500), 2)))
    result = {**about(arguments), "pairs": len(pairs), "device": device, "bundles": [], "peers": {}}
    for folder in options.bundles:
        bundle = Bundle.open(folder)
        reference = RawSession(bundle, checked, device=device)
        expected, _ = reference.run()
        found: dict[str, Any] = {"model": model_of(bundle), "tokens_per_pair": reference.tokens / reference.pairs}
        found |= {"spread_of_scores": float(expected.std()), "raw_before": raw_speeds(bundle, pairs, device)}
        result["bundles"].append(found)
        for name, settings in sessions().items():
            found[name] = measure(ours(folder, **PATIENT, **settings), pairs, expected, options)
            write(result, options.out, "bundles", "peers")
        found["raw_again"] = raw_speeds(bundle, pairs, device)
        write(result, options.out, "bundles", "peers")
    for name, batch in PEERS.items() if options.peer else ():
        manifest = Bundle.open(options.bundles[0]).manifest
        server = of_ours(name, "plain.py", options.peer, manifest, Path(sys.executable), device, batch)
        result["peers"][name] = measure(server, pairs, expected, options)
        write(result, options.out, "bundles", "peers")


if __name__ == "__main__":
    main(sys.argv[1:])
