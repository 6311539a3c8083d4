"""How the service behaves under pressure: `python benchmarks/serving/pressure.py BUNDLE ROWS OUT.json`.

In one run, on real pairs, client and server on the same cores:

- isolation: latency of single pairs while requests of 500 candidates saturate the server, beside the longest runs;
- overload: mixed requests at twice the peak rate: what is still answered in time, how fast the rest is refused, and
  how long single pairs take to be as fast as before once the load has ended;
- aborts: 30 % of the callers hang up; the others' scores must be those of the raw session.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import PATIENT
from load.raw import RawSession
from load.servers import Server, ours, started
from load.traffic import (
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
from results.report import about, model_of, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.tasks import Pair

LARGE, LARGE_CONCURRENT, SINGLES_A_SECOND, MIXED_CONCURRENT = 500, 4, 5.0, 8
TARGET_MS = 3750.0  # on two cores 500 candidates take a second and a half alone
OVERLOAD, ABORTED, ABORT_LOAD, ABORT_SECONDS = 2.0, 0.3, 0.5, 0.005
PROBE_SECONDS, RECOVERY_SECONDS = 0.05, 6.0
RUN = re.compile(r"run;dur=([0-9.]+)")


async def isolation(server: Server, url: str, pairs: Sequence[Pair], seconds: float) -> dict[str, Any]:
    """Return latencies of single pairs beside requests of 500, and how long the runs took that they were in."""
    client = Client(url, server.dialect)
    alone = await closed_loop(client, itertools.islice(by_query(pairs, 1), 100), 1)
    large = asyncio.create_task(closed_loop(client, by_query(pairs, LARGE), LARGE_CONCURRENT, seconds))
    await asyncio.sleep(3)
    singles = await open_loop(client.send, by_query(pairs, 1), SINGLES_A_SECOND, seconds - 4)
    runs = [float(found[1]) / 1000 for each in singles if (found := RUN.search(each.headers.get("server-timing", "")))]
    answered = await large
    beside, longest = milliseconds(each.seconds for each in singles), milliseconds(runs)
    return {
        "single_alone": milliseconds(each.seconds for each in alone),
        "single_beside_500s": beside | {"requests": len(singles), "failed": sum(s.status != 200 for s in singles)},
        "run": longest,
        "large_pairs_per_second": pairs_a_second(answered),
        "p99_over_p99_of_runs": beside["p99_ms"] / longest["p99_ms"],
    }


async def peak(server: Server, url: str, pairs: Sequence[Pair], seconds: float) -> float:
    """Return the pairs a second of mixed requests at saturation."""
    client = Client(url, server.dialect)
    await closed_loop(client, itertools.islice(mixed(pairs), 10), 2)
    return pairs_a_second(await closed_loop(client, mixed(pairs, seed=1), MIXED_CONCURRENT, seconds))


async def overload(server: Server, url: str, pairs: Sequence[Pair], most: float, seconds: float) -> dict[str, Any]:
    """Return what happens at twice the peak rate, and after it."""
    client, singles = Client(url, server.dialect), by_query(pairs, 1)
    await closed_loop(client, itertools.islice(mixed(pairs), 10), 2)
    before = await open_loop(client.send, singles, 10, 10)
    normal = milliseconds(each.seconds for each in before)
    sent = await open_loop(client.send, mixed(pairs, seed=2), OVERLOAD * most / pairs_a_request(), seconds)
    ended = max(each.due for each in sent)  # answers of the last ones are waited for: the queue is empty by now
    again = await _again_as_before(server, url, pairs, most, normal["p99_ms"])
    answered, refused = [s for s in sent if s.status == 200], [s for s in sent if s.status == 429]
    first, last = min(each.due for each in sent), max(each.done for each in sent)
    in_time = [each for each in answered if 1000 * each.seconds <= TARGET_MS]
    return {
        "target_latency_ms": TARGET_MS,
        "peak_pairs_per_second": most,
        "offered_pairs_per_second": sum(len(each.pairs) for each in sent) / seconds,
        "requests": len(sent),
        "answered": len(answered),
        "refused": len(refused),
        "other_statuses": sorted({each.status for each in sent} - {200, 429}),
        "goodput_share_of_peak": sum(len(each.pairs) for each in in_time) / (last - first) / most,
        "answered_late": len(answered) - len(in_time),
        "admitted": by_count(answered) | {"all": _slowest(answered)},
        "refusals": _slowest(refused),
        "refused_with_retry_after": sum("retry-after" in each.headers for each in refused),
        "emptied_after_seconds": last - ended,
        "single_before": normal,
        "recovery": again,
    }


async def _again_as_before(server: Server, url: str, pairs: Sequence[Pair], most: float, p99: float) -> dict[str, Any]:
    """Overload for some seconds, stop sending, and find from when on single pairs are as fast as before."""
    client, singles = Client(url, server.dialect), by_query(pairs, 1)
    load = asyncio.create_task(open_loop(client.send, mixed(pairs, seed=3), OVERLOAD * most / pairs_a_request(), 10))
    await asyncio.sleep(10)
    ended, probes = time.perf_counter(), []
    while time.perf_counter() < ended + RECOVERY_SECONDS:
        probes.append(await client.send(Sent(next(singles), time.perf_counter())))
        await asyncio.sleep(PROBE_SECONDS)
    await load
    slow = [each.done - ended for each in probes if each.status != 200 or 1000 * each.seconds > 2 * p99]
    return {"as_before_after_seconds": max(slow, default=0.0), "probes": len(probes), "slow_probes": len(slow)}


def _slowest(sent: Sequence[Sent]) -> dict[str, float]:
    most = max((each.seconds for each in sent), default=float("nan"))
    return milliseconds(each.seconds for each in sent) | {"max_ms": round(1000 * most, 2)}


async def aborts(
    server: Server, url: str, pid: int, pairs: Sequence[Pair], most: float, seconds: float
) -> tuple[dict[str, Any], list[Sent]]:
    """Return what happens where 30 % of the callers hang up, and the others' answers."""
    client, rng = Client(url, server.dialect), random.Random(0)
    impatient = itertools.cycle(rng.sample([number < 10 * ABORTED for number in range(10)], 10))  # of ten, three
    await closed_loop(client, itertools.islice(mixed(pairs), 30), 2)
    before = resident_mb(pid)

    async def send(sent: Sent) -> Sent:
        if next(impatient):
            return await client.hang_up(sent, rng.uniform(0, ABORT_SECONDS))
        return await client.send(sent, keep=True)

    sent = await open_loop(send, mixed(pairs, seed=4), ABORT_LOAD * most / pairs_a_request(), seconds)
    stayed = [each for each in sent if each.status != -1]
    began = time.perf_counter()
    while (waiting := queued_tokens(url)) and time.perf_counter() < began + 30:
        await asyncio.sleep(0.05)
    return {
        "requests": len(sent),
        "hung_up": len(sent) - len(stayed),
        "stayed": by_count(stayed),
        "failed": sum(each.status != 200 for each in stayed),
        "queued_tokens_afterwards": waiting,
        "queue_empty_after_seconds": time.perf_counter() - began,
        "resident_mb": {"before": before, "after": resident_mb(pid)},
    }, stayed


def differences(bundle: Bundle, server: Server, sent: Sequence[Sent]) -> float:
    """Return the largest difference of answered scores to those of the raw session, pair by pair."""
    answered = [each for each in sent if each.status == 200]
    scores = list(itertools.chain.from_iterable(server.dialect.scores(each.body) for each in answered))
    expected, _ = RawSession(bundle, list(itertools.chain.from_iterable(each.pairs for each in answered))).run()
    return float(np.abs(np.array(scores) - expected).max())


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def queued_tokens(url: str) -> float:
    """Return how many tokens wait at the server, as its metrics tell."""
    with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("relevance_queued_tokens{"))


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args(arguments)
    bundle, seconds = Bundle.open(options.bundle), options.seconds
    pairs = pairs_of(options.rows, bundle)
    patient, strict = ours(options.bundle, **PATIENT), ours(options.bundle, target_latency_ms=TARGET_MS)
    with started(patient) as (url, pid):
        beside = asyncio.run(isolation(patient, url, pairs, seconds))
        most = asyncio.run(peak(patient, url, pairs, seconds / 2))
        gone, stayed = asyncio.run(aborts(patient, url, pid, pairs, most, seconds))
    gone["largest_score_difference"] = differences(bundle, patient, stayed)
    with started(strict) as (url, _):
        over = asyncio.run(overload(strict, url, pairs, most, seconds))
    result = {
        **about(arguments),
        "model": model_of(bundle),
        "isolation": beside,
        "overload": over,
        "aborts": gone,
    }
    write(result, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
