"""Whether memory stays flat: `python benchmarks/serving/soak.py BUNDLE ROWS OUT.json [--minutes 20]`.

Mixed requests over candidates of random lengths (real words, made up into texts never seen before), at about 60 % of
what the server can do, 10 % of the callers hanging up, while the server's resident memory is read every few seconds.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from compare import PATIENT
from load.servers import ours, started
from load.traffic import MIX, Client, Sent, by_count, open_loop, pairs_a_request
from pressure import peak, queued_tokens, resident_mb
from results.report import about, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.tasks import Pair

LOAD, ABORTED, READ_SECONDS, WARM_SECONDS = 0.6, 0.1, 5.0, 120.0
LONGEST_WORDS = 120


def of_random_lengths(pairs: Sequence[Pair], seed: int = 0) -> Iterator[list[Pair]]:
    """Yield mixed requests without end, with texts of 1 to 120 real words, short ones oftener."""
    rng = random.Random(seed)
    words = sorted({word for pair in pairs for word in pair.candidate.split()})
    while True:
        query = rng.choice(pairs).query
        count = rng.choices(list(MIX), list(MIX.values()))[0]
        lengths = (min(LONGEST_WORDS, 1 + int(rng.expovariate(1 / 10))) for _ in range(count))
        yield [Pair(query, " ".join(rng.choices(words, k=length)), "en") for length in lengths]


async def soak(
    url: str, pid: int, client: Client, pairs: Sequence[Pair], rate: float, seconds: float
) -> dict[str, object]:
    """Send requests and read the memory meanwhile."""
    rng, memory, began = random.Random(1), [], time.perf_counter()

    async def send(sent: Sent) -> Sent:
        if rng.random() < ABORTED:
            return await client.hang_up(sent, rng.uniform(0, 0.5))
        return await client.send(sent)

    async def watch() -> None:
        while True:
            memory.append((round(time.perf_counter() - began, 1), resident_mb(pid)))
            await asyncio.sleep(READ_SECONDS)

    watching = asyncio.create_task(watch())
    sent = await open_loop(send, of_random_lengths(pairs), rate, seconds)
    watching.cancel()
    stayed = [each for each in sent if each.status != -1]
    later = [mb for second, mb in memory if second >= WARM_SECONDS]
    return {
        "requests": len(sent),
        "hung_up": len(sent) - len(stayed),
        "failed": sum(each.status != 200 for each in stayed),
        "by_candidates": by_count(stayed),
        "queued_tokens_afterwards": queued_tokens(url),
        "resident_mb_after_2_minutes": later[0],
        "resident_mb_least": min(later),
        "resident_mb_most": max(later),
        "resident_mb_at_the_end": later[-1],
        "growth_after_2_minutes": max(later) / later[0] - 1,
        "resident_mb_by_second": memory[:: max(1, len(memory) // 60)],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args(arguments)
    bundle = Bundle.open(options.bundle)
    pairs = pairs_of(options.rows, bundle)
    server = ours(options.bundle, **PATIENT)
    with started(server) as (url, pid):
        most = asyncio.run(peak(server, url, pairs, 20))
        client = Client(url, server.dialect)
        found = asyncio.run(soak(url, pid, client, pairs, LOAD * most / pairs_a_request(), 60 * options.minutes))
    result = {
        **about(arguments),
        "minutes": options.minutes,
        "load": LOAD,
        **found,
    }
    write(result, options.out, "resident_mb_by_second")


if __name__ == "__main__":
    main(sys.argv[1:])
