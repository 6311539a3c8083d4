"""Makes raw requests that are no HTTP, or no sane HTTP, and sends them. Used by a test and a benchmark."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

SILENCE_SECONDS = 0.5  # what is cut off gets no answer: it waits for the rest
AT_ONCE = 16
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

SCORE = {"task": "qc", "query": "shoes", "candidates": ["Shoes", "Socks"]}
RERANK = {"model": "qc", "query": "cup", "documents": [{"text": "red cup", "x": 1}], "return_documents": True}
LINES = b'{"query": "a", "candidate": "b"}\n' * 3
NUMBERS = (b"1e999", b"-0", b"9" * 5000, b"NaN", b"-Infinity", b"1" + b"0" * 400, b"0x10", b"1.5", b"true", b"null")
TEXTS = (
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\xff"',
    b'"\\u0000"',
    b'"\x00"',
    b'""',
    b'"\\',
    b'"a',
    b"'a'",
    b'"\xed\xa0\x80"',
)
CODINGS = (b"gzip", b"chunked, gzip", b"\x0bchunked", b"xchunked")
METHODS = (b"GET", b"HEAD", b"PRI", b"CONNECT", b"\x16\x03\x01", b"P" * 9000)
ODD_PATHS = ("*", "http://x/v1/score", "//x", "/" + "a" * 100_000, "/%00%ff", "/\x7f", "/v1/../v1/score")
PATHS = ("/v1/score", "/v2/rerank", "/v1/rerank", "/rerank", "/predict", "/v1/score/bulk?task=qc", "/v1/models")


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """Return a request in order."""
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: x", b"Content-Type: application/json", *headers]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(pieces: Sequence[bytes]) -> bytes:
    """Return a body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def odd_bodies(rng: random.Random) -> bytes:
    """Return a body of JSON that is odd: deep, long, not finite, twice the same key, no Unicode."""
    score, value = json.dumps(SCORE).encode(), rng.choice((*NUMBERS, *TEXTS))
    depth = rng.choice((1, 50, 200, 500, 900, 950, 980, 990, 1000, 5000, 100_000))
    nested = rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    return rng.choice(
        (
            nested,
            score.replace(b'"shoes"', value),
            score.replace(b'"Socks"', value),
            score.replace(b'["Shoes"', b"[" + nested),
            score[:-1] + b', "task": "qi"}',
            score[:-1] + b', "query": ' + value + b"}",
            json.dumps(RERANK).encode().replace(b"1}", nested + b"}"),
            json.dumps(RERANK).encode().replace(b"1}", value + b"}"),
            json.dumps(RERANK).encode()[:-1] + b', "top_n": ' + value + b"}",
            score.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32"))),
            b'{"task": "qc", ' + b", ".join(b'"k%d": %b' % (n, value) for n in range(300)) + b"}",
        )
    )


def odd_framing(rng: random.Random, path: str, body: bytes) -> bytes:
    """Return a request whose headers or framing are odd."""
    lie = rng.choice((0, 1, len(body) - 1, len(body) + 1, 10**7, 10**30, -1))
    size = rng.choice((b"-1", b"ffffffffffffffff1", b"zz", b"", b"0" * 100_000, b"5;" + b"x" * 100_000, b"+3", b"0x3"))
    line = rng.choice(
        (b"X: " + b"a" * 200_000, b"a" * 200_000, b"X: \x00", b": x", b"X y: z", b" folded", b"X:\x01\xff")
    )
    chunks = b"Transfer-Encoding: chunked"
    return rng.choice(
        (
            post(path, body, b"Content-Length: %d" % lie),
            post(path, body, b"Content-Length: %d" % len(body), b"Content-Length: %d" % lie),
            post(path, chunked([body]), chunks, b"Content-Length: %d" % lie),
            post(path, chunked([body[:3], body[3:]]), chunks),
            post(path, size + b"\r\n" + body + b"\r\n0\r\n\r\n", chunks),
            post(path, chunked([body])[:-2] + b"T: x\r\n" * rng.choice((1, 1000)) + b"\r\n", chunks),
            post(path, body, b"Transfer-Encoding: " + rng.choice(CODINGS)),
            post(path, body, line),
            post(path, body, *[b"X-%d: y" % n for n in range(rng.choice((100, 140, 5000)))]),
            post(path, body, b"Connection: Upgrade", b"Upgrade: " + rng.choice((b"websocket", b"h2c", b"\xff"))),
            post(path, body, b"Expect: " + rng.choice((b"100-continue", b"200-ok"))),
            post(path, body, b"X-Request-Id: " + rng.choice((b"a" * 5000, b"\xff")), b"X-Request-Timeout-Ms: -1"),
            post(path, body).replace(b"HTTP/1.1", rng.choice((b"HTTP/9.9", b"HTTP/0.9", b"HTTP/1.0", b"HTTP", b""))),
            post(path, body).replace(b"POST", rng.choice(METHODS)),
            post(rng.choice(ODD_PATHS), body),
            post(path, body).replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\r\n"))),
            post(path, body) * rng.choice((2, 30)),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
    )  # fmt: skip


def flipped(rng: random.Random, request: bytes) -> bytes:
    """Return a request with some bytes changed, left out or put in, or cut off."""
    data = bytearray(request)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(data))
        rng.choice((_change, _drop, _insert))(rng, data, place)
        if not data:
            break
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data)


def _change(rng: random.Random, data: bytearray, place: int) -> None:
    data[place] = rng.randrange(256)


def _drop(rng: random.Random, data: bytearray, place: int) -> None:
    del data[place : place + rng.choice((1, 1, 4, 40))]


def _insert(rng: random.Random, data: bytearray, place: int) -> None:
    data[place:place] = rng.choice((b"\r\n", b"\0", b"\xff", b"\r\n\r\n", b":", b"{", b"9", b"A" * 70_000))


def malformed(seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` requests, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        path, kind = rng.choice(PATHS), rng.random()
        whole = LINES if "bulk" in path else json.dumps(RERANK if "rerank" in path else SCORE).encode()
        if kind < 0.35:
            yield post(path, odd_bodies(rng))
        elif kind < 0.7:
            yield odd_framing(rng, path, whole)
        else:
            yield flipped(rng, post(path, whole))


async def send_all(host: str, port: int, requests: Sequence[bytes]) -> Counter[str]:
    """Send each over a connection of its own; count the statuses that come back, and `none` where nothing does."""
    turns, seen = asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def one(request: bytes) -> None:
        async with turns:
            statuses = STATUS.findall(await _exchange(host, port, request))
            seen.update([status.decode() for status in statuses] or ["none"])

    await asyncio.gather(*map(one, requests))
    return seen


async def _exchange(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    found = b""
    try:
        writer.write(request)
        while piece := await asyncio.wait_for(reader.read(65536), SILENCE_SECONDS):
            found += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return found
