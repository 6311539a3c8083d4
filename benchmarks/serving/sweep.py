"""Our service by candidate count, batch size and precision: `python benchmarks/serving/sweep.py ROWS OUT.json BUNDLE..`

For a GPU, and for any machine: give the fp32 and the fp16 (on a CPU the int8) bundle of one model. For each bundle and
each budget of padded tokens a run: pairs a second at saturation, requests of 500 candidates four at a time, and the
share of that time outside the session; and latency by candidate count with the usual budget, one request after another.
Beside it, how far the scores of each bundle are from those of the first one. Says which device was used.

On a GPU each bundle is measured again with CUDA graphs.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import PATIENT
from load.servers import Server, ours, started
from load.traffic import Client, Sent, by_query, closed_loop, milliseconds, pairs_a_second
from results.report import about, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.model.cores import usable_cores
from relevance.model.session import onnxruntime
from relevance.tasks import Pair
from service.runtime.providers import CUDA
from service.settings import Settings

COUNTS = (1, 10, 50, 100, 500)
BUDGETS = {"cpu": (128, 512, 2048), "cuda": (2048, 8192, 16_384, 32_768, 65_536)}
LARGE, CONCURRENT, CHECKED = 500, 4, 2


async def saturated(server: Server, url: str, pairs: Sequence[Pair], seconds: float) -> dict[str, float]:
    """Return pairs and tokens a second of requests of 500, and the share of the threads' time outside of runs."""
    client = Client(url, server.dialect)
    await closed_loop(client, itertools.islice(by_query(pairs, LARGE), CONCURRENT), CONCURRENT)
    before, began = told(url), time.perf_counter()
    sent = await closed_loop(client, by_query(pairs, LARGE), CONCURRENT, seconds)
    used, elapsed = told(url), time.perf_counter() - began
    in_runs = used["relevance_batch_duration_seconds_sum"] - before["relevance_batch_duration_seconds_sum"]
    threads = Settings().runs_at_once(device_at(url), usable_cores())
    tokens = used["relevance_tokens_total"] - before["relevance_tokens_total"]
    padding = used["relevance_padding_tokens_total"] - before["relevance_padding_tokens_total"]
    return {
        "pairs_per_second": pairs_a_second(sent),
        "tokens_per_second": tokens / elapsed,
        "padding_share": padding / (tokens + padding),
        "share_of_time_outside_the_session": 1 - in_runs / elapsed / threads,
    }


async def by_candidates(server: Server, url: str, pairs: Sequence[Pair], requests: int) -> dict[str, dict[str, float]]:
    """Return latencies by candidate count, one request after another."""
    client, found = Client(url, server.dialect), {}
    for count in COUNTS:
        few = max(10, requests // (1 + count // 50))
        stream = by_query(pairs, count)
        await closed_loop(client, itertools.islice(stream, 3), 1)
        sent = await closed_loop(client, itertools.islice(stream, few), 1)
        found[str(count)] = {"requests": few} | milliseconds(each.seconds for each in sent)
    return found


async def scores(server: Server, url: str, pairs: Sequence[Pair]) -> list[float]:
    """Return the scores of some requests of 500."""
    client, found = Client(url, server.dialect), []
    for request in itertools.islice(by_query(pairs, LARGE), CHECKED):
        found += server.dialect.scores((await client.send(Sent(request, 0.0), keep=True)).body)
    return found


def told(url: str) -> dict[str, float]:
    """Return what a server's metrics say, summed over their labels."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("relevance_")]
    found: dict[str, float] = {}
    for name, value in (line.rsplit(" ", 1) for line in lines):
        found[name.split("{")[0]] = found.get(name.split("{")[0], 0.0) + float(value)
    return found


def device_at(url: str) -> str:
    """Return the device that a server's first model runs on."""
    with urllib.request.urlopen(url + "/v1/models", timeout=30) as answer:
        return str(json.load(answer)["models"][0]["device"])


def sessions() -> dict[str, dict[str, object]]:
    """Return the settings of all kinds of session that this machine can run."""
    offered = onnxruntime.get_available_providers()
    found: dict[str, dict[str, object]] = {"plain": {}}
    if CUDA in offered:
        found["cuda_graphs"] = {"cuda_graphs": True}
    return found


def measure(
    folder: Path, pairs: Sequence[Pair], options: argparse.Namespace, settings: Mapping[str, object]
) -> tuple[dict[str, Any], list[float]]:
    """Return what is found of one bundle, and its scores."""
    bundle = Bundle.open(folder)
    server = ours(folder, **PATIENT, **settings)
    with started(server) as (url, _):
        device = device_at(url)
        found = asyncio.run(scores(server, url, pairs))
        latencies = asyncio.run(by_candidates(server, url, pairs, options.requests))
    budgets = {}
    for budget in BUDGETS[device]:
        server = ours(folder, max_batch_tokens=budget, target_run_ms=10_000, **PATIENT, **settings)
        with started(server) as (url, _):
            budgets[str(budget)] = asyncio.run(saturated(server, url, pairs, options.seconds))
    model = {"name": bundle.manifest.name, "precision": bundle.manifest.precision, "device": device}
    return model | {"by_candidates": latencies, "by_budget": budgets}, found


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=15, help="of each saturation")
    parser.add_argument("--requests", type=int, default=200, help="of single pairs; fewer of the larger ones")
    options = parser.parse_args(arguments)
    pairs = pairs_of(options.rows, Bundle.open(options.bundles[0]))
    found, first = [], None
    kinds = [(folder, *each) for folder in options.bundles for each in sessions().items()]
    for folder, session, settings in kinds:
        measured, given = measure(folder, pairs, options, settings)
        first = given if first is None else first
        manifest = Bundle.open(folder).manifest
        shift = np.abs(np.array(given) - np.array(first))
        labels = [np.array(each) >= manifest.threshold_for("en") for each in (given, first)]
        against = {
            "largest_score_difference": float(shift.max()),
            "mean_score_difference": float(shift.mean()),
            "share_of_labels_changed": float(np.mean(labels[0] != labels[1])),
        }
        found.append({"session": session} | measured | {"against_the_first": against})
    result = {
        **about(arguments),
        "bundles": found,
    }
    write(result, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
