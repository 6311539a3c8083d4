"""How close HTTP comes to the raw session: `python benchmarks/serving/throughput.py BUNDLE ROWS OUT.json`.

In one run, on the same pairs and the same machine: the raw onnxruntime session over batches sorted by length (the
limit), then `relevance serve` with requests of 100 candidates, four at a time (client on the same cores), then single
pairs one after another, then the raw session again. Nothing is reported unless the scores are equal. Ratios are of this
run only.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from load.raw import BATCH_TOKENS, RawSession
from load.servers import ours, started
from results.report import about, model_of, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.model.session import DEFAULT_BATCH_TOKENS, onnxruntime
from relevance.tasks import Pair, Task
from service.settings import Settings

CANDIDATES, CONCURRENT, SINGLES = 100, 4, 200
TOLERANCES = {"fp32": 1e-4, "fp16": 0.005, "int8": 0.05}  # rounding to int8 magnifies the last bits that padding moves


def device_of_this_machine() -> str:
    """Return where the service that is started here will run its model."""
    offered = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return "cuda" if offered and Settings().device != "cpu" else "cpu"


async def through_http(url: str, task: Task, pairs: Sequence[Pair]) -> tuple[np.ndarray, float, list[float]]:
    """Return scores and seconds of the pairs in large requests, and the latencies (ms) of single pairs."""
    scores = np.zeros(len(pairs))

    def body(part: Sequence[Pair]) -> dict[str, object]:
        rows = [{"query": p.query, "candidate": p.candidate, "language": p.language} for p in part]
        return {"task": task, "pairs": rows}

    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        starts = iter(range(0, len(pairs), CANDIDATES))

        async def caller() -> None:
            for start in starts:
                part = pairs[start : start + CANDIDATES]
                answer = (await client.post("/v1/score", json=body(part))).raise_for_status().json()
                scores[start : start + len(part)] = [entry["score"] for entry in answer["scores"]]

        await client.post("/v1/score", json=body(pairs[:CANDIDATES]))
        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CONCURRENT)))
        seconds = time.perf_counter() - begun
        latencies = []
        for pair in pairs[:SINGLES]:
            begun = time.perf_counter()
            (await client.post("/v1/score", json=body([pair]))).raise_for_status()
            latencies.append(1000 * (time.perf_counter() - begun))
    return scores, seconds, latencies


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    bundle = Bundle.open(options.bundle)
    task = bundle.manifest.task
    pairs = pairs_of(options.rows, bundle)
    device = device_of_this_machine()
    session = RawSession(bundle, pairs, DEFAULT_BATCH_TOKENS["cuda"] if device == "cuda" else BATCH_TOKENS, device)
    if device == "cuda":
        session.run()  # every shape once
    expected, raw_seconds = session.run()
    with started(ours(options.bundle, log_level="INFO")) as (url, _):
        scores, seconds, latencies = asyncio.run(through_http(url, task, pairs))
    np.testing.assert_allclose(scores, expected, atol=TOLERANCES[bundle.manifest.precision])
    again, raw_again = session.run()  # once more, so that a change of the machine's speed shows
    raw = len(pairs) / np.mean([raw_seconds, raw_again])
    result = {
        **about(arguments),
        "model": model_of(bundle),
        "device": device,
        "pairs": len(pairs),
        "largest_score_difference": float(np.abs(scores - again).max()),
        "raw_session_pairs_per_second": [len(pairs) / raw_seconds, len(pairs) / raw_again],
        "http_pairs_per_second": len(pairs) / seconds,
        "share_of_raw_session": len(pairs) / seconds / raw,
        "single_pair_ms": {f"p{q}": float(np.percentile(latencies, q)) for q in (50, 95, 99)},
    }
    write(result, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
