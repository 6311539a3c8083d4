"""Requests that ask for another protocol, and blanks around header values, byte for byte over a socket."""

import json
import shutil
import socket
import subprocess
from urllib.parse import urlsplit

import pytest

from relevance.tasks import Task
from tests.malformed import SCORE, chunked
from tests.serving import running
from tests.tiny import tiny_bundle

BODY = json.dumps(SCORE).encode()
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
UPGRADES = {
    "h2c": H2C,
    "java": (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAEAAEAAAAIAAAAB", b"Upgrade: h2c"),
    "websocket": (
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: eA==",
    ),
    "unknown": (b"Connection: Upgrade", b"Upgrade: x-nothing/7"),
    "several": (b"Connection: keep-alive, Upgrade", b"Upgrade: h2c, websocket", b"Upgrade: TLS/1.0"),
    "two lines": (b"Connection: Upgrade", b"Connection: HTTP2-Settings", b"Upgrade: h2c"),
}


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "qc"
    tiny_bundle(folder, Task.QC)
    with running({"qc": folder}) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def link(process):
    url = urlsplit(process.wait_ready())
    with socket.create_connection((url.hostname, url.port), timeout=20) as link, link.makefile("rb") as found:
        yield Link(link, found)


class Link:
    """A connection, and the answers that come over it."""

    def __init__(self, link, found):
        self._found = found
        self.send = link.sendall

    def answer(self):
        """Return the status, headers and body of the next answer; interim ones are answers too."""
        status, headers = int(self._found.readline().split()[1]), {}
        while line := self._found.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self._found.read(int(headers.get("content-length", 0)))

    @property
    def ended(self):
        return self._found.read(1) == b""


def request(body, *headers, method=b"POST", version=b"1.1"):
    lines = [method + b" /v1/score HTTP/" + version, b"Host: x", b"Content-Type: application/json", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def sized(*headers, **options):
    return request(BODY, b"Content-Length: %d" % len(BODY), *headers, **options)


def assert_scored(answer):
    status, headers, body = answer
    assert status == 200, body
    assert len(json.loads(body)["scores"]) == 2
    return headers


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_upgrade_is_ignored_and_the_connection_kept(link, upgrade):
    for _ in range(3):
        link.send(sized(*upgrade))
        assert "connection" not in assert_scored(link.answer())
    link.send(sized())
    assert_scored(link.answer())


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("step", [1, 7, 100])
def test_upgrade_in_pieces_keeps_its_body(link, upgrade, step):
    whole = sized(*upgrade) + request(chunked([BODY[:5], BODY[5:]]), b"Transfer-Encoding: chunked", *upgrade)
    for start in range(0, len(whole), step):
        link.send(whole[start : start + step])
    assert_scored(link.answer())
    assert_scored(link.answer())


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_upgrade_with_a_chunked_body_that_waits_to_be_asked_for(link, upgrade):
    link.send(request(b"", b"Transfer-Encoding: chunked", b"Expect: 100-continue", *upgrade))
    assert link.answer()[0] == 100
    link.send(chunked([BODY[:9], BODY[9:]]))
    assert_scored(link.answer())
    link.send(sized())
    assert_scored(link.answer())


def test_pipelined_upgrades_are_all_answered(link):
    link.send((sized(*H2C) + sized()) * 20)
    for _ in range(40):
        assert_scored(link.answer())


def test_upgrade_without_a_body(link):
    link.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(H2C) + b"\r\n\r\n")
    assert link.answer()[0] == 200
    link.send(sized())
    assert_scored(link.answer())


def test_close_and_old_versions_still_end_the_connection(process, link):
    link.send(sized(b"Connection: close, Upgrade", b"Upgrade: h2c"))
    assert assert_scored(link.answer())["connection"] == "close"
    assert link.ended


def test_upgrade_of_an_old_version(link):
    link.send(sized(b"Connection: Upgrade", b"Upgrade: h2c", version=b"1.0"))
    assert assert_scored(link.answer())["connection"] == "close"
    assert link.ended


def test_a_tunnel_is_refused_and_the_connection_ends(link):
    link.send(sized(method=b"CONNECT") + sized())
    status, headers, _ = link.answer()
    assert (status, headers["connection"]) == (405, "close")
    assert link.ended


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t  "])
def test_blanks_around_header_values_are_no_part_of_them(link, blank):
    names = (
        b"X-Request-Timeout-Ms: 5000",
        b"X-Request-Id: a1",
        b"X-Relevance-Model: active",
        b"Content-Encoding: identity",
    )
    link.send(sized(*[name.replace(b": ", b":" + blank) + blank for name in names]))
    assert assert_scored(link.answer())["x-request-id"] == "a1"
    link.send(request(b"", b"Content-Length: %d" % len(BODY), b"Expect: 100-continue" + blank))
    assert link.answer()[0] == 100
    link.send(BODY)
    assert_scored(link.answer())


def test_refusal_before_a_body_that_waits_ends_the_connection(link):
    link.send(request(b"", b"Content-Length: 900000000", b"Expect: 100-continue"))
    status, headers, _ = link.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert link.ended


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_that_offers_http2_is_answered(process):
    url = process.wait_ready() + "/v1/score"
    command = ["curl", "-sS", "--http2", url, "-H", "Content-Type: application/json", "-d", BODY.decode()]
    found = subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert len(json.loads(found.stdout)["scores"]) == 2


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Call {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int n = 0; n < 3; n++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0]))
                .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(given[1])).build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("java") is None, reason="needs java; its request is replayed above")
def test_java_client_is_answered(process, tmp_path):
    source = tmp_path / "Call.java"
    source.write_text(JAVA)
    command = ["java", str(source), process.wait_ready() + "/v1/score", BODY.decode()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "compiler" in found.stderr:
        pytest.skip("this java has no compiler")
    assert [line[:4] for line in found.stdout.splitlines()] == ["200 "] * 3, found.stderr
