"""How much hostile bodies slow other requests: `python benchmarks/operate/bodies.py OUT.json`.

A real service with a tiny bundle gets bodies that cost more to parse than to send: two at a time without a pause, on
every route of its OpenAPI pages, one kind after the other. Meanwhile the script requests `/healthz` every few
milliseconds over one open connection, and reads the largest resident memory. The sizes determine every input.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

from relevance.model.cores import processor
from relevance.tasks import Task
from service.api.admin.app import create_admin_app
from service.api.app import create_app
from service.api.policy import SMALL_BODY_BYTES
from service.settings import Settings
from tests.hostile import Route, bodies, routes_of
from tests.serving import Process, running
from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit

AT_ONCE = 2
BULK_BYTES = 256 * 1024
PAUSE_SECONDS, ALONE_SECONDS = 0.003, 5.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
GOAL_MS, GOAL_BODIES = 50, 3


def send_for(port: int, request: bytes, seconds: float, statuses: Counter[str]) -> None:
    """Send a request repeatedly, each over a new connection."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            sending = threading.Thread(target=_send, args=(link, request))
            sending.start()
            start = link.recv(65536)
            with suppress(OSError):
                while link.recv(65536):
                    pass
            sending.join()
        found = STATUS.match(start)
        statuses[found[1].decode() if found else "none"] += 1


def _send(link: socket.socket, request: bytes) -> None:
    with suppress(OSError):  # the answer may come, and the end, before all is sent
        link.sendall(request)


def senders(pipe: Connection) -> None:
    """Send in a process of its own, so that sending does not slow the process that measures."""
    while job := pipe.recv():
        port, request, seconds = job
        statuses: Counter[str] = Counter()
        threads = [threading.Thread(target=send_for, args=(port, request, seconds, statuses)) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send(dict(statuses))


@contextmanager
def sending() -> Iterator[Connection]:
    """Start the process that sends and yield the pipe to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=senders, args=(there,), daemon=True)
    child.start()
    try:
        yield here
    finally:
        here.send(None)
        child.join()


def health_alone(port: int) -> dict[str, float]:
    """Return the latencies of health answers while nobody else sends: the noise of the machine."""
    until = time.monotonic() + ALONE_SECONDS
    return _figures(health_while(lambda: time.monotonic() > until, port))


def _figures(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "health_answers": len(times),
        "health_p50_ms": round(times[len(times) // 2], 2),
        "health_p99_ms": round(times[int(0.99 * (len(times) - 1))], 2),
        "health_slowest_ms": round(times[-1], 2),
    }


def health_while(done: Callable[[], bool], port: int) -> list[float]:
    """Request `/healthz` until `done` and return the milliseconds of each answer."""
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not done():
            began = time.perf_counter()
            link.sendall(HEALTH)
            answer = b""
            while b"alive" not in answer:
                answer += link.recv(65536)
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(PAUSE_SECONDS)
    return found


def memory(pid: int, name: str) -> int:
    """Return a figure of the process's status, in bytes."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def one(process: Process, pipe: Connection, port: int, request: bytes, seconds: float, size: int) -> dict[str, Any]:
    """Measure one kind of body on one route."""
    pid = process.child.pid
    pipe.send((port, request, 0.0))  # fill the caches first: they do not count for this body
    pipe.recv()
    before = memory(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the largest from now on
    pipe.send((port, request, seconds))
    times = health_while(pipe.poll, port)
    statuses = pipe.recv()
    above = memory(pid, "VmHWM") - before
    return {
        "statuses": statuses,
        **_figures(times),
        "memory_above_before_bytes": above,
        "memory_above_before_bodies": round(above / (AT_ONCE * size), 2),
    }


def measure(process: Process, seconds: float, body_bytes: int) -> dict[str, dict[str, Any]]:
    """Measure all kinds on all routes."""
    app = create_app(Settings(), {})
    both = ((False, app), (True, create_admin_app(app.state.service, [])))
    result: dict[str, dict[str, Any]] = {}
    with sending() as pipe:
        for admin, each in both:
            for route in routes_of(each.openapi()):
                size = _size(route, admin, body_bytes)
                found = result[f"{route.method.upper()} {route.name}"] = {}
                for kind, body in bodies(route, size):
                    request = route.head(len(body), b"Connection: close") + body
                    found[kind] = one(process, pipe, port_of(process, admin), request, seconds, len(body))
                print(route.name, worst({route.name: found}), file=sys.stderr, flush=True)
    return result


def _size(route: Route, admin: bool, body_bytes: int) -> int:
    return (SMALL_BODY_BYTES if admin else BULK_BYTES if route.lines else body_bytes) - 100


def port_of(process: Process, admin: bool) -> int:
    """Return the port of the API, or of the admin interface."""
    if not admin:
        return int(process.wait_ready().rsplit(":", 1)[1])
    found = [re.search(r"admin interface at http://[^:]+:(\d+)", line) for line in process.lines]
    return next(int(match[1]) for match in found if match)


def worst(result: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the worst value of each figure, with its route and kind."""
    cells = [(f"{route}: {kind}", cell) for route, kinds in result.items() for kind, cell in kinds.items()]
    figures = ("health_p99_ms", "health_slowest_ms", "memory_above_before_bytes")
    found = {}
    for figure in figures:
        place, cell = max(cells, key=lambda each: each[1][figure])
        found[figure] = {"value": cell[figure], "at": place}
    late = [place for place, cell in cells if cell["health_p99_ms"] > GOAL_MS]
    large = {
        place: cell["memory_above_before_bodies"]
        for place, cell in cells
        if cell["memory_above_before_bodies"] > GOAL_BODIES and cell["memory_above_before_bytes"] > 2**21
    }
    return found | {"tried": len(cells), f"p99_over_{GOAL_MS}_ms": late, f"memory_over_{GOAL_BODIES}_bodies": large}


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each kind is sent to each route")
    parser.add_argument("--body-bytes", type=int, default=2 * 1024 * 1024, help="size of bodies, and their limit")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tiny_bundle(Path(folder) / "qc", Task.QC)
        limits = {"max_body_bytes": options.body_bytes, "admin_port": 0}
        with running({"qc": Path(folder) / "qc"}, threads=1, **limits) as process:
            process.wait_ready()
            alone = health_alone(port_of(process, admin=False))
            result = measure(process, options.seconds, options.body_bytes)
            if process.child.poll() is not None:
                raise SystemExit("the service has ended")
    about = {
        "command": f"python benchmarks/operate/bodies.py OUT.json --seconds {options.seconds:g}",
        "date": now(),
        "commit": source_commit(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "body_bytes": options.body_bytes,
        "at_once": AT_ONCE,
        "load_average": os.getloadavg()[0],
        "alone": alone,
    }
    text = json.dumps(about | {"worst": worst(result), "routes": result}, indent=1, ensure_ascii=False)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(about | {"worst": worst(result)}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
