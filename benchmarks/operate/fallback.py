"""How long re-ranking calls take when the service is away: `python benchmarks/operate/fallback.py OUT.json`.

A real service with a tiny bundle is well, loaded by other callers, frozen (SIGSTOP) and stopped (SIGKILL). In each
state both clients make CALLS calls with a budget, each with the circuit breaker and without it. Notes how each call
ended and how long it took, and beside it how long the machine takes to end a sleep of that length: on a busy one,
nothing can return in time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

import numpy as np

from relevance.client import AsyncClient, Client, RerankPolicy, RerankResult
from relevance.model.cores import processor
from relevance.tasks import Task
from tests.serving import Process, running
from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit

BUDGET_MS, CALLS, LOADERS = 200.0, 20, 4
TITLES = [f"Red ceramic cup number {n} " + "x" * (n % 30) for n in range(100)]
POLICIES = {
    "breaker": RerankPolicy("keep_order", partial=True),
    "no breaker": RerankPolicy("keep_order", partial=True, break_after=0),
}


def measured(call: Callable[[str], RerankResult]) -> dict[str, Any]:
    """Make calls one after the other; return how they ended and how many milliseconds they took."""
    call("first")  # it makes the connection, if it can
    outcomes: Counter[str] = Counter()
    took = []
    for number in range(CALLS):
        began = time.perf_counter()
        result = call(f"cup {number}")
        took.append(1000 * (time.perf_counter() - began))
        outcomes[result.outcome] += 1
        scored = any(score is not None for score in result.scores)
        if sorted(result.order) != list(range(len(TITLES))) or result.reranked is not scored:
            raise SystemExit(f"error: a result that is not honest: {result}")
    return {"outcomes": dict(outcomes), **times(took)}


def times(took: Sequence[float]) -> dict[str, float]:
    """Return percentiles of milliseconds, and how many were over the budget."""
    low, high = np.percentile(took, [50, 95])
    over = sum(each > BUDGET_MS for each in took)
    return {
        "p50_ms": round(float(low), 1),
        "p95_ms": round(float(high), 1),
        "max_ms": round(max(took), 1),
        "over_budget": over,
    }


def sleep() -> dict[str, float]:
    """Return how long sleeps of the budget take on this machine."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        time.sleep(BUDGET_MS / 1000)
        took.append(1000 * (time.perf_counter() - began))
    return times(took)


def with_client(url: str, policy: RerankPolicy) -> dict[str, Any]:
    """Measure `Client`."""
    with Client(url) as client:
        return measured(lambda query: client.rerank("qi", query, TITLES, budget_ms=BUDGET_MS, policy=policy))


def with_async_client(url: str, policy: RerankPolicy) -> dict[str, Any]:
    """Measure `AsyncClient`."""
    with asyncio.Runner() as runner:
        client = AsyncClient(url)
        found = measured(
            lambda query: runner.run(client.rerank("qi", query, TITLES, budget_ms=BUDGET_MS, policy=policy))
        )
        runner.run(client.aclose())
        return found


def both_clients(url: str, state: str) -> list[dict[str, Any]]:
    """Measure both clients under each policy."""
    kinds = {"Client": with_client, "AsyncClient": with_async_client}
    return [
        {"state": state, "client": kind, "policy": name, **measure(url, policy)}
        for name, policy in POLICIES.items()
        for kind, measure in kinds.items()
    ]


@contextlib.contextmanager
def load(url: str) -> Iterator[None]:
    """Keep the service busy with requests of LOADERS callers."""
    over = threading.Event()

    def work(number: int) -> None:
        with Client(url, timeout_seconds=30) as client:
            while not over.is_set():
                with contextlib.suppress(Exception):
                    client.score("qi", f"load {number} {time.monotonic()}", TITLES)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(LOADERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def states(process: Process) -> list[dict[str, Any]]:
    """Measure the service in each state, and stop it."""
    url = process.wait_ready()
    found = both_clients(url, "well")
    with load(url):
        found += both_clients(url, "loaded")
    process.child.send_signal(signal.SIGSTOP)
    found += both_clients(url, "frozen")
    process.child.send_signal(signal.SIGCONT)
    process.end(signal.SIGKILL)
    return found + both_clients(url, "stopped")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tiny_bundle(Path(folder) / "qi", Task.QI, hidden=128, depth=20)
        with running({"qi": Path(folder) / "qi"}) as process:
            found = states(process)
    result = {
        "command": f"python benchmarks/operate/fallback.py {options.out}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": {"cpus": os.cpu_count(), "processor": processor(), "load": round(os.getloadavg()[0], 1)},
        "budget_ms": BUDGET_MS,
        "candidates": len(TITLES),
        "calls": CALLS,
        "sleep_of_the_budget": sleep(),
        "results": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
