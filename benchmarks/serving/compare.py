"""Our service beside its peers: `python benchmarks/serving/compare.py CHECKPOINT BUNDLE ROWS PEERS_PYTHON OUT.json`.

Starts each server in turn on this machine, over the same model, and asks it for the same pairs; a server whose scores
are not those of the raw onnxruntime session is not timed. In each round, and for each server: the raw session (the
limit), requests of 100 candidates four at a time, requests of mixed size eight at a time, single pairs one by one, the
raw session again. Ratios are of neighbours in time. `--int8 BUNDLE` adds our service over the int8 bundle of the same
model, whose scores are others: how far they are off is told. Then an open loop: mixed requests at shares of the limit,
whatever comes back. Writes OUT.json and two plots beside it. Client and server share the cores.
"""

import argparse
import asyncio
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from load.raw import RawSession
from load.servers import Server, ours, peers, started
from load.traffic import (
    MIX,
    Client,
    Sent,
    by_count,
    by_query,
    closed_loop,
    milliseconds,
    mixed,
    open_loop,
    pairs_a_request,
    pairs_a_second,
)
from results.plots import plot_open_loop, plot_throughput
from results.report import about, model_of, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.tasks import Pair

CANDIDATES, CONCURRENT, MIXED_CONCURRENT, SINGLES = 100, 4, 8, 100
TOLERANCE = 1e-4
OURS, INT8 = "relevance", "relevance-int8"
LOADS = (0.25, 0.5, 0.75)  # of the raw session's pairs a second
PATIENT = {"target_latency_ms": 120_000, "request_timeout_ms": 300_000}  # a closed loop is not to be refused


def saturation(server: Server, workload: "Workload", raw: RawSession) -> dict[str, Any]:
    """Return one round of one server: pairs a second and latencies, between two runs of the raw session."""
    before = raw.pairs_a_second()
    with started(server) as (url, _):
        found = asyncio.run(_saturate(server, url, workload))
    limit = (before + raw.pairs_a_second()) / 2
    shares = {f"{name}_share_of_raw": found[f"{name}_pairs_per_second"] / limit for name in ("hundreds", "mixed")}
    return {"raw_pairs_per_second": limit} | found | shares


async def _saturate(server: Server, url: str, workload: "Workload") -> dict[str, Any]:
    client = Client(url, server.dialect)
    difference = await _check(client, server, workload)
    await closed_loop(client, iter(workload.hundreds[:2]), CONCURRENT)
    hundreds = await closed_loop(client, iter(workload.hundreds), CONCURRENT)
    various = await closed_loop(client, iter(workload.mixed), MIXED_CONCURRENT)
    singles = await closed_loop(client, iter(workload.singles), 1)
    client.close()
    for each in (*hundreds, *various, *singles):
        if each.status != 200:
            raise SystemExit(f"error: {server.name} answered {each.status} to {len(each.pairs)} pairs")
    return {
        "largest_score_difference": difference,
        "hundreds_pairs_per_second": pairs_a_second(hundreds),
        "mixed_pairs_per_second": pairs_a_second(various),
        "hundreds": milliseconds(each.seconds for each in hundreds),
        "mixed": by_count(various),
        "single": milliseconds(each.seconds for each in singles),
    }


async def _check(client: Client, server: Server, workload: "Workload") -> float:
    """Return the largest difference to the raw session's scores; ends the program where it is too large for fp32."""
    scores: list[float] = []
    for pairs in workload.checked:
        sent = await client.send(Sent(pairs, 0.0), keep=True)
        if sent.status != 200:
            raise SystemExit(f"error: {server.name} answered {sent.status}: {sent.body[:300]!r}")
        scores += server.dialect.scores(sent.body)
    difference = float(np.abs(np.array(scores) - workload.expected).max())
    if difference > TOLERANCE and server.name != INT8:
        raise SystemExit(f"error: {server.name} gives other scores: off by {difference:.2g}, expected {TOLERANCE}")
    return difference


def arriving(server: Server, pairs: Sequence[Pair], limit: float, seconds: float) -> list[dict[str, Any]]:
    """Return the latencies of an open loop at each load; the server is started anew for each."""
    found = []
    for load in LOADS:
        rate = load * limit / pairs_a_request()
        with started(server) as (url, _):
            sent = asyncio.run(_arrive(server, url, pairs, rate, seconds))
        answered = sum(len(each.pairs) for each in sent if each.status == 200)
        found.append(
            {
                "load": load,
                "requests_per_second": rate,
                "requests": len(sent),
                "unanswered": sum(each.status != 200 for each in sent),
                "pairs_per_second_asked": sum(len(each.pairs) for each in sent) / seconds,
                "pairs_answered": answered,
                "by_candidates": by_count(sent),
            }
        )
    return found


async def _arrive(server: Server, url: str, pairs: Sequence[Pair], rate: float, seconds: float) -> list[Sent]:
    client = Client(url, server.dialect)
    await closed_loop(client, iter([next(by_query(pairs, CANDIDATES))]), 1)
    return await open_loop(client.send, mixed(pairs), rate, seconds)


class Workload:
    """The requests of a run, the same for every server."""

    def __init__(self, pairs: Sequence[Pair], bundle: Bundle, requests: int) -> None:
        self.hundreds = _first(by_query(pairs, CANDIDATES), requests)
        self.mixed = _first(mixed(pairs), round(requests * CANDIDATES / pairs_a_request()))
        self.singles = _first(by_query(pairs, 1), SINGLES)
        self.checked = self.hundreds[:2]
        flat = list(itertools.chain.from_iterable(self.checked))
        self.expected, _ = RawSession(bundle, flat).run()
        self.raw = RawSession(bundle, list(itertools.chain.from_iterable(self.hundreds)))


def _first(requests: Iterator[list[Pair]], count: int) -> list[list[Pair]]:
    return list(itertools.islice(requests, count))


def ratios(rounds: Sequence[dict[str, dict[str, Any]]], server: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return how many times a peer's share of the raw session a server's is, by workload: mean, least and most."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for peer in [name for name in rounds[0] if name not in {OURS, INT8}]:
        for work in ("hundreds", "mixed"):
            key = f"{work}_share_of_raw"
            each = [found_in[server][key] / found_in[peer][key] for found_in in rounds]
            found.setdefault(peer, {})[work] = {"mean": float(np.mean(each)), "least": min(each), "most": max(each)}
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "bundle", "rows", "peers_python", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20, help="of 100 candidates, in each round")
    parser.add_argument("--int8", type=Path, help="int8 bundle of the same model")
    parser.add_argument("--seconds", type=float, default=40, help="of each open loop; 0 leaves these out")
    options = parser.parse_args(arguments)
    bundle = Bundle.open(options.bundle)
    pairs = pairs_of(options.rows, bundle)
    workload = Workload(pairs, bundle, options.requests)
    servers = [ours(options.bundle, **PATIENT), *peers(options.checkpoint, options.bundle, options.peers_python)]
    if options.int8:
        servers.append(dataclasses.replace(ours(options.int8, **PATIENT), name=INT8))
    rounds = [
        {server.name: saturation(server, workload, workload.raw) for server in servers} for _ in range(options.rounds)
    ]
    limit = float(np.mean([each["raw_pairs_per_second"] for found in rounds for each in found.values()]))
    result = {
        **about(arguments),
        "model": model_of(bundle),
        "tokens_per_pair": workload.raw.tokens / workload.raw.pairs,
        "mix": {str(count): share for count, share in MIX.items()},
        "raw_pairs_per_second": limit,
        "share_of_raw": {
            name: {
                work: float(np.mean([found[name][f"{work}_share_of_raw"] for found in rounds]))
                for work in ("hundreds", "mixed")
            }
            for name in rounds[0]
        },
        "times_the_peer": ratios(rounds, OURS),
        "int8_times_the_peer": ratios(rounds, INT8) if options.int8 else {},
        "rounds": rounds,
        "open_loop": {s.name: arriving(s, pairs, limit, options.seconds) for s in servers} if options.seconds else {},
    }
    write(result, options.out, "rounds", "open_loop")
    plot_throughput(result, options.out.with_suffix(".throughput.svg"))
    if result["open_loop"]:
        plot_open_loop(result, options.out.with_suffix(".latency.svg"))


if __name__ == "__main__":
    main(sys.argv[1:])
