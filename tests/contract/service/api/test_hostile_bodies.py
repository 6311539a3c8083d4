"""Two bodies at a time that cost more to take in than to send, on every route: refused, at bounded cost."""

import contextlib
import gzip
import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from relevance.tasks import Task
from service.api.admin.app import create_admin_app
from service.api.app import create_app
from service.settings import Settings
from tests.hostile import bodies, bomb, routes_of
from tests.serving import running
from tests.tiny import tiny_bundle

MIB = 1024 * 1024
BODY_BYTES, BULK_BYTES, OTHER_BYTES = MIB, 64 * 1024, 64 * 1024
AT_ONCE = 2
MEMORY_BYTES = 3 * BODY_BYTES * AT_ONCE
CPU_SECONDS = 0.5  # for both; a body of a million wrong elements took over 5 s
LINE_CPU_SECONDS = 0.0002  # of a bulk request: each line is answered
REFUSALS = {"400", "404", "409", "413", "422"}
VALID_KINDS = {"blanks", "lines", "same key", "long text", "long wide text", "escapes", "backslashes", "quotes"}
WIDE_KINDS = {"long wide text"}  # Python keeps four bytes for each character of a text that has one beyond U+FFFF
WIDE = 4


def data_routes():
    app = create_app(Settings(), {})
    return [*routes_of(app.openapi())]


def admin_routes():
    app = create_admin_app(create_app(Settings(), {}).state.service, [])
    return [*routes_of(app.openapi())]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    tiny_bundle(folder / "qc", Task.QC)
    with running({"qc": folder / "qc"}, threads=1, admin_port=0) as process:
        process.wait_ready()
        yield process


def port_of(process, admin):
    found = [re.search(r"admin interface at http://[^:]+:(\d+)", line) for line in process.lines]
    ports = [match[1] for match in found if match]
    return int(ports[0] if admin else process.wait_ready().rsplit(":", 1)[1])


def exchange(port, request, answers):
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        sending = threading.Thread(target=send, args=(link, request))
        sending.start()
        with contextlib.suppress(ConnectionError):
            while piece := link.recv(65536):
                found += piece
        sending.join()
    answers.append(found)


def send(link, request):
    with contextlib.suppress(OSError):  # the answer may come, and the end, before all is sent
        link.sendall(request)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory(pid, name):
    return int(re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def cost(process, port, request):
    """Send a request twice at once; return the answers, seconds of CPU and the largest memory above that before."""
    pid = process.child.pid
    before, began = memory(pid, "VmRSS"), cpu_seconds(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the largest from now on
    answers: list[bytes] = []
    senders = [threading.Thread(target=exchange, args=(port, request, answers)) for _ in range(AT_ONCE)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return answers, cpu_seconds(pid) - began, memory(pid, "VmHWM") - before


@pytest.mark.parametrize(
    ("route", "admin"),
    [*((route, False) for route in data_routes()), *((route, True) for route in admin_routes())],
    ids=lambda value: f"{value.method} {value.name}" if hasattr(value, "name") else "admin" if value else "data",
)
def test_hostile_bodies_are_refused_at_bounded_cost(process, route, admin):
    port = port_of(process, admin)
    size = OTHER_BYTES if admin else BULK_BYTES if route.lines else BODY_BYTES
    found, body_lines = {}, {}
    for kind, body in bodies(route, size - 100):
        request = route.head(len(body), b"Connection: close") + body
        exchange(port, request, [])  # what stays in caches is not this body's
        answers, seconds, taken = cost(process, port, request)
        statuses = {re.match(rb"HTTP/1.1 (\d+)", answer)[1].decode() for answer in answers}
        body_lines[kind] = body.count(b"\n")
        found[kind] = (statuses, seconds, taken)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    for kind, (statuses, seconds, taken) in found.items():
        allowed = {"200"} if route.lines else REFUSALS | ({"200"} if kind in VALID_KINDS else set())
        assert statuses <= allowed, kind
        assert seconds <= CPU_SECONDS + AT_ONCE * LINE_CPU_SECONDS * route.lines * body_lines[kind], kind
        assert taken <= MEMORY_BYTES * (WIDE if kind in WIDE_KINDS else 1), kind
    assert not [line for line in process.lines if '"traceback"' in line]


@pytest.mark.parametrize("route", [route for route in data_routes() if not route.lines], ids=lambda route: route.name)
def test_gzip_bombs_are_refused_without_being_built(process, route):
    for body in (bomb(200 * MIB), gzip.compress(b"[" + b"1," * 20 * MIB, mtime=0)):
        request = route.head(len(body), b"Content-Encoding: gzip", b"Connection: close") + body
        answers, seconds, taken = cost(process, port_of(process, False), request)
        assert all(answer.startswith(b"HTTP/1.1 413") for answer in answers)
        assert seconds < CPU_SECONDS
        assert taken < MEMORY_BYTES
