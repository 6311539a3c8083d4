"""Runs HAProxy with `deploy/haproxy/haproxy.cfg` before two services of this machine."""

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import ROOT

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs HAProxy 2.6 or newer")
CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
WAIT_SECONDS = 120


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def adapted(config: str, port: int, urls: list[str]) -> str:
    """Return the committed configuration with other ports."""
    text, count = re.subn(r"bind \S+", f"bind 127.0.0.1:{port}", config)
    servers = [url.removeprefix("http://") for url in urls]
    for name, address in zip("ab", servers, strict=True):
        text, found = re.subn(rf"server {name} \S+", f"server {name} {address}", text)
        count += found
    assert count == 3
    return text


@contextlib.contextmanager
def balancer(folder: Path, config: str, urls: list[str]) -> Iterator[str]:
    """Start HAProxy with a configuration whose ports and servers are replaced; yield its URL."""
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(adapted(config, port, urls))
    checked = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with subprocess.Popen(["haproxy", "-db", "-f", str(file)]) as process:
        try:
            ends = time.monotonic() + WAIT_SECONDS
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                        break
                assert time.monotonic() < ends
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def cached_pairs(url: str) -> tuple[int, int]:
    """Return how many pairs the cache of scores of a replica had, and how many it had not."""
    text = httpx.get(f"{url}/metrics").text
    found = re.findall(r'relevance_cache_lookups_total\{cache="scores",result="(\w+)",task="qc"\} (\S+)', text)
    counts = {result: int(float(value)) for result, value in found}
    return counts["hit"], counts["miss"]
