"""How much of what a model reads is padding: `python benchmarks/serving/padding.py BUNDLE ROWS OUT.json`

With exact lengths (CPU) and with a GPU's lengths, by candidate count and by how many requests are sent at a time. That
share is the most that padding-free attention could save. No GPU is needed: a real server forms the batches, and its
session waits as long as a GPU at the speed that is aimed at would take (1.6 million padded tokens a second) and answers
zeros.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from load.servers import Server, our_dialect, started
from load.traffic import Client, by_query, closed_loop
from null_model import NullEngine
from numpy.typing import NDArray
from results.report import about, pairs_of, write
from sweep import told

from relevance.model.bundle import Bundle
from relevance.tasks import Pair
from relevance.text.tokenization import TokenizedPair
from service.observability.logs import configure_logging
from service.process.server import serve
from service.settings import Settings

TOKENS_PER_SECOND = 1_600_000
TOKENS, PADDING = "relevance_tokens_total", "relevance_padding_tokens_total"
COUNTS, CONCURRENT, SECONDS = (1, 10, 50, 100, 500), (1, 4, 16), 3.0


class PacedEngine(NullEngine):
    """An engine that takes the time of a fast one."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        super().__init__(bundle)
        self.device = device

    def logits(self, pairs: Sequence[TokenizedPair], width: int = 0) -> NDArray[np.float32]:
        time.sleep(len(pairs) * max(width, *map(len, pairs)) / TOKENS_PER_SECOND)
        return super().logits(pairs, width)


def serve_paced(device: str, bundle: Path, port: int) -> None:
    settings = Settings(port=port, log_level="WARNING")
    configure_logging(settings.log_level)
    serve(settings, {Bundle.open(bundle).manifest.task: bundle}, lambda opened, settings: PacedEngine(opened, device))


async def padding(server: Server, url: str, pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Return the share of padding by candidate count and requests at a time."""
    client, found = Client(url, server.dialect), {}
    for count, concurrent in itertools.product(COUNTS, CONCURRENT):
        before = told(url)
        await closed_loop(client, by_query(pairs, count), concurrent, SECONDS)
        tokens, padded = (told(url)[name] - before[name] for name in (TOKENS, PADDING))
        found.setdefault(str(count), {})[str(concurrent)] = padded / (tokens + padded)
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON; with --serve, be the server."""
    if arguments[0] == "--serve":
        serve_paced(arguments[1], Path(arguments[2]), int(arguments[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "rows", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    bundle = Bundle.open(options.bundle)
    pairs = pairs_of(options.rows, bundle)
    shares = {}
    for device in ("cpu", "cuda"):
        command = (sys.executable, __file__, "--serve", device, str(options.bundle), "{port}")
        server = Server(device, command, "/readyz", our_dialect(bundle.manifest), {})
        with started(server) as (url, _):
            shares[device] = asyncio.run(padding(server, url, pairs))
    result = {
        **about(arguments),
        "tokens_per_second": TOKENS_PER_SECOND,
        "padding_share_by_candidates_and_requests_at_a_time": shares,
    }
    write(result, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
