"""Load on a scoring server: requests of real pairs, sent as fast as they are answered or at a constant rate.

An open loop sends by the clock whatever comes back, as users do; a closed loop waits for answers and so hides overload.
Latencies count from the moment a request was due, not from when the client came to send it.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

from relevance.tasks import Pair

MIX = {1: 0.60, 50: 0.25, 100: 0.10, 500: 0.05}  # share of the requests by candidate count
GIVE_UP_SECONDS = 60.0


@dataclass(slots=True)
class Sent:
    """One request and what became of it. Times in seconds; `status` 0: no answer in time, -1: hung up on purpose."""

    pairs: Sequence[Pair]
    due: float
    status: int = 0
    seconds: float = float("nan")
    done: float = float("nan")
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is spoken to: where to post, and the body for pairs of one query (or any, where it takes them)."""

    path: str
    body: Callable[[Sequence[Pair]], bytes]
    scores: Callable[[bytes], list[float]]


class Client:
    """Keeps connections to one server, as many as requests are under way. As little Python as possible."""

    def __init__(self, url: str, dialect: Dialect) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._dialect = dialect
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, sent: Sent, headers: str = "", give_up: float = GIVE_UP_SECONDS, keep: bool = False) -> Sent:
        """Post a request and note its status and latency; `keep` keeps the answer's body."""
        body = self._dialect.body(sent.pairs)
        try:
            async with asyncio.timeout(give_up):
                await self._send(sent, body, headers, keep)
        except TimeoutError:
            sent.status = 0
        except (ConnectionError, asyncio.IncompleteReadError):
            sent.status = 599
        sent.done = time.perf_counter()
        sent.seconds = sent.done - sent.due
        return sent

    async def hang_up(self, sent: Sent, after: float) -> Sent:
        """Post a request and close the connection after some seconds, answered or not."""
        await self.send(sent, give_up=after, keep=True)
        sent.status = sent.status or -1
        return sent

    async def _send(self, sent: Sent, body: bytes, headers: str, keep: bool) -> None:
        while self._idle:  # a server may have closed a connection that was idle: then another one is taken
            reader, writer = self._idle.pop()
            try:
                return await self._exchange(reader, writer, sent, body, headers, keep)
            except (ConnectionError, asyncio.IncompleteReadError):
                continue
        await self._exchange(*await self._open(), sent, body, headers, keep)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sent: Sent,
        body: bytes,
        headers: str,
        keep: bool,
    ) -> None:
        try:
            head = f"POST {self._dialect.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            sent.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            content = await reader.readexactly(int(sent.headers.get("content-length", 0)))
            sent.status, sent.body = int(lines[0].split(" ")[1]), content if keep else b""
        except BaseException:
            writer.close()
            raise
        if sent.headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, limit=2**24)

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()


def by_query(pairs: Iterable[Pair], candidates: int) -> Iterator[list[Pair]]:
    """Yield requests without end: one query each, with so many of all the candidates, drawn with a fixed seed."""
    pairs, rng = list(pairs), random.Random(candidates)
    titles = sorted({pair.candidate for pair in pairs})
    for pair in itertools.cycle(pairs):
        chosen = rng.sample(titles, candidates) if candidates <= len(titles) else rng.choices(titles, k=candidates)
        yield [Pair(pair.query, title, pair.language) for title in chosen]


def mixed(pairs: Sequence[Pair], seed: int = 0, mix: dict[int, float] = MIX) -> Iterator[list[Pair]]:
    """Yield requests of mixed candidate counts without end."""
    rng, streams = random.Random(seed), {count: by_query(pairs, count) for count in mix}
    while True:
        yield next(streams[rng.choices(list(mix), list(mix.values()))[0]])


def pairs_a_request(mix: dict[int, float] = MIX) -> float:
    """Return how many pairs a mixed request holds on average."""
    return sum(count * share for count, share in mix.items())


async def closed_loop(
    client: Client, requests: Iterator[list[Pair]], concurrent: int, seconds: float = float("inf"), **options: bool
) -> list[Sent]:
    """Send requests, `concurrent` at a time, until the time is over or the requests are; return them all."""
    sent: list[Sent] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        for pairs in requests:
            if time.perf_counter() > until:
                return
            sent.append(await client.send(Sent(pairs, time.perf_counter()), **options))

    await asyncio.gather(*(caller() for _ in range(concurrent)))
    return sent


Send = Callable[[Sent], Awaitable[Sent]]


async def open_loop(
    send: Send, requests: Iterator[list[Pair]], rate: float, seconds: float, seed: int = 0
) -> list[Sent]:
    """Send requests at a constant mean rate with random gaps (Poisson), whatever comes back; wait for all of them."""
    rng, due, tasks = random.Random(seed), time.perf_counter(), []
    end = due + seconds
    while (due := due + rng.expovariate(rate)) < end:
        pairs = next(requests)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(send(Sent(pairs, due))))
    return list(await asyncio.gather(*tasks))


def milliseconds(seconds: Iterable[float]) -> dict[str, float]:
    """Return percentiles of latencies, in ms; empty where there are none."""
    values = [each for each in seconds if each == each]
    return {f"p{q}_ms": round(1000 * float(np.percentile(values, q)), 2) for q in (50, 95, 99)} if values else {}


def by_count(sent: Iterable[Sent]) -> dict[str, dict[str, float]]:
    """Return for each candidate count: requests, how many got 200, and the latencies of those."""
    counts: dict[int, list[Sent]] = {}
    for each in sent:
        counts.setdefault(len(each.pairs), []).append(each)
    return {
        str(count): {"requests": len(each), "answered": sum(s.status == 200 for s in each)}
        | milliseconds(s.seconds for s in each if s.status == 200)
        for count, each in sorted(counts.items())
    }


def pairs_a_second(sent: Sequence[Sent]) -> float:
    """Return the pairs of answered requests over the time from the first one due to the last one done."""
    done = [each for each in sent if each.status == 200]
    span = max(each.done for each in done) - min(each.due for each in sent)
    return sum(len(each.pairs) for each in done) / span
